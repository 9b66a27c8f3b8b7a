"""The ONNX Runtime engine on CPU: threads, and no second optimizer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest

import stcompile
from stcompile.errors import ArtifactError
from stcompile.kernels import native
from stcompile.runtime import engines
from stcompile.runtime.cpus import available_cpus
from stcompile.runtime.engines.onnxruntime import OnnxRuntimeEngine
from tests.conftest import GOLDEN, MODELS, Compiled

_CASE = "pool_mean_with_prompt"


@pytest.fixture(scope="session")
def artifact(compiled: Compiled) -> Path:
    return compiled(_CASE)


def test_a_graph_the_engine_cannot_load_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ArtifactError, match=r"ONNX Runtime .* cannot load model\.onnx"):
        OnnxRuntimeEngine(tmp_path / "model.onnx", 1, "basic")


@pytest.mark.parametrize("threads", [1, 3, None])
def test_threads_are_honoured(threads: int | None, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _spy(monkeypatch)
    stcompile.load(artifact, threads=threads)
    (options,) = seen
    assert options.intra_op_num_threads == (threads or available_cpus())
    assert options.inter_op_num_threads == 1


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
def test_the_engine_runs_what_the_passes_chose(
    provider: str, compiled: Compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = compiled(_CASE, provider=provider)
    shaped = _heavy(next(folder.glob("*.onnx")))
    _spy(monkeypatch, tmp_path / "run.onnx")
    # a graph that was shaped for CUDA still runs on CPU, and is not rewritten for it
    stcompile.load(folder)
    assert _heavy(tmp_path / "run.onnx") == shaped
    # two layers; on CPU SkipLayerNormalization is slower than what it replaces
    attention, norms = "EncoderLayerFloat32" if provider == "cpu" else "MultiHeadAttention", "SkipLayerNormalization"
    assert (shaped[attention], shaped[norms] > 0) == (2, provider == "cuda")


def test_what_stands_in_an_operators_place_is_not_rewritten(
    compiled: Compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.VARIABLE, native.NONE)
    _spy(monkeypatch, tmp_path / "run.onnx")
    stcompile.load(compiled(_CASE))
    ran = _heavy(tmp_path / "run.onnx")
    assert (ran["Attention"], ran["EncoderLayerFloat32"], ran["SkipLayerNormalization"]) == (2, 0, 0)
    turned = sum(node.op_type == "Transpose" for node in onnx.load(tmp_path / "run.onnx").graph.node)
    assert turned == 0, "weights are turned when the graph is loaded"


@pytest.mark.parametrize(
    ("schema", "target", "found", "widens"),
    [
        ("v1", "int8", False, True),
        # Nothing in 8 bits either, though the manifest tells of a recipe
        ("v1", "fp16", False, False),
        ("v2", "fp16", False, False),
        # What adds products of 8 bits in 32 cannot saturate, and nobody knows of a CPU that says nothing
        ("v1", "int8", True, False),
        ("v1", "int8", None, False),
        # Nothing in 8 bits
        ("v1", "fp32", False, False),
        # Scaled so that no CPU saturates
        ("v3", "int8", False, False),
    ],
)
def test_older_weights_are_widened_where_their_sums_would_saturate(
    schema: str, target: str, found: bool | None, widens: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = sorted(folder for folder in (GOLDEN / "artifacts" / schema).iterdir() if f"onnx-{target}" in folder.name)
    monkeypatch.setattr(engines, "adds_int8_products", lambda: found)
    seen = _spy(monkeypatch)
    stcompile.load(folders[0])
    levels, key = onnxruntime.GraphOptimizationLevel, "session.x64quantprecision"
    assert seen[0].graph_optimization_level == (levels.ORT_ENABLE_EXTENDED if widens else levels.ORT_ENABLE_BASIC)
    assert (key in _entries(seen[0], key)) is widens


def _entries(options: Any, key: str) -> dict[str, str]:
    """The entry of that name, where there is one."""
    try:
        return {key: options.get_session_config_entry(key)}
    except RuntimeError:
        return {}


def _spy(monkeypatch: pytest.MonkeyPatch, written: Path | None = None) -> list[Any]:
    """Collects the options of the sessions that are made, and has each write down the graph it will run."""
    seen: list[Any] = []
    real = onnxruntime.InferenceSession

    def session(graph: str, options: Any, providers: list[str], **more: Any) -> Any:
        seen.append(options)
        if written is not None:
            options.optimized_model_filepath = str(written)
        return real(graph, options, providers=providers, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    return seen


_ENDS = ("Attention", "Normalization", "Gelu")


def _heavy(graph: Path) -> Counter[str]:
    """How many of each of the operators that an engine likes to fuse."""
    names = (node.op_type for node in onnx.load(graph).graph.node)
    return Counter(name for name in names if name.endswith(_ENDS) or name.startswith(("Fused", "EncoderLayer")))


def test_the_engine_reports_nothing_to_anybody(compiled: Compiled, tmp_path: Path) -> None:
    """onnxruntime's official builds keep a telemetry database in the home folder from their import on."""
    script = f"import stcompile; stcompile.load({str(compiled('pool_mean_with_prompt'))!r}).encode('hello')"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", script], check=True, env={**environment, "HOME": str(tmp_path)})
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.processes
def test_an_export_reports_nothing_to_anybody(tmp_path: Path) -> None:
    """torch and our own calibration import onnxruntime, too."""
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir()
    scratch.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "TMPDIR": str(scratch), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "stcompile", "export", str(MODELS / "normalize"), "-o", str(tmp_path / "out")]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    left = [path.relative_to(tmp_path).as_posix() for path in (*home.rglob("*"), *scratch.rglob("*"))]
    assert [path for path in left if "Microsoft" in path or path.endswith(".ses")] == []
