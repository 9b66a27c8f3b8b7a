"""The OpenVINO engine: the same bytes, the number type that was asked for, several threads, no word to anybody."""

from __future__ import annotations

import dataclasses
import filecmp
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stcompile
from stcompile.artifact import open_artifact, write_manifest
from stcompile.artifact.manifest import EngineSpec
from stcompile.compiler.export import export_model
from stcompile.errors import ArtifactError, MissingExtraError, ProviderError, TargetError
from stcompile.kernels.cpu_features import computes_bfloat16
from stcompile.runtime.cpus import available_cpus
from stcompile.runtime.engines.openvino import OpenVinoEngine, import_openvino
from tests.conftest import MODELS, Quick, load_case

_CASE = "full_stack"
MORE = ("fp32", "int4-weights")
_OUTPUTS = ("sentence_embedding",)

# bfloat16 has 8 bits: nearer to float32 than this are two layers of width 32.
BFLOAT16 = 0.999


@pytest.fixture(scope="module")
def artifact(quick: Quick) -> Path:
    return quick(_CASE, "openvino-int8").folder


@pytest.fixture
def copy(artifact: Path, tmp_path: Path) -> Path:
    """An artifact that may be written to."""
    return Path(shutil.copytree(artifact, tmp_path / "copy"))


def engine_of(folder: Path, **change: Any) -> OpenVinoEngine:
    options: dict[str, Any] = {
        "graph": folder / "model.xml",
        "threads": 1,
        "spec": EngineSpec("openvino"),
        "outputs": _OUTPUTS,
    }
    return OpenVinoEngine(**{**options, **change})


@pytest.mark.parametrize(
    "target", ["openvino-int8", *(pytest.param(f"openvino-{name}", marks=pytest.mark.more_models) for name in MORE)]
)
def test_two_exports_of_one_model_are_the_same_bytes(target: str, quick: Quick, tmp_path: Path) -> None:
    """Other graphs in between: OpenVINO's own names count up over the life of a process."""
    first = quick(_CASE, target).folder
    other = quick("static_dense", target, tmp_path / "other").folder
    again = quick(_CASE, target, tmp_path / "again").folder
    names = sorted(path.name for path in first.iterdir())
    assert names == ["manifest.json", "model.bin", "model.xml", "report.json", "self_test.json", "tokenizer.json"]
    assert filecmp.cmpfiles(first, again, names, shallow=False)[0] == names
    assert not filecmp.cmp(first / "model.bin", other / "model.bin", shallow=False)


def test_nothing_of_the_machine_is_in_the_files(artifact: Path, tmp_path: Path) -> None:
    """Neither a path nor a name that depends on the process."""
    content = (artifact / "model.xml").read_bytes()
    for private in (str(Path.home()), "/tmp", str(Path.cwd()), str(tmp_path)):
        assert private.encode() not in content
    assert b"stcompile-openvino-" not in content


def test_several_threads_may_encode_at_once(artifact: Path) -> None:
    """Each call takes a request of its own, and its result is nobody else's memory."""
    texts = load_case(_CASE).texts
    encoder = stcompile.load(artifact, threads=1)
    expected = [encoder.encode(text) for text in texts]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            found = list(pool.map(encoder.encode, texts * 4))
            assert all(np.array_equal(one, other) for one, other in zip(found, expected * 4, strict=True))


def test_long_texts_may_be_encoded_at_once(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO raises where memory is to be given back while a run goes on."""
    monkeypatch.setattr("stcompile.runtime.engines.openvino.is_large", lambda _: True)
    encoder = stcompile.load(artifact, threads=2)
    texts = [f"{number} " * 100 for number in range(60)]
    expected = [encoder.encode(text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(encoder.encode, texts))
    assert np.array_equal(found, expected)


def test_a_result_stays_what_it_is_when_the_next_is_computed(artifact: Path) -> None:
    engine = engine_of(artifact)
    feeds = [{"input_ids": np.full((1, 16), token), "attention_mask": np.ones((1, 16), np.int64)} for token in (7, 9)]
    names = [item.name for item in open_artifact(artifact).manifest.graphs[0].inputs]
    for item in feeds:
        item.update({name: np.zeros((1, 16), np.int64) for name in names if name not in item})
    first = engine.run(feeds[0], _OUTPUTS)[0]
    kept = first.copy()
    second = engine.run(feeds[1], _OUTPUTS)[0]
    assert not np.array_equal(first, second)
    assert np.array_equal(first, kept)
    assert first.dtype == np.float32


def test_a_failed_run_does_not_spoil_the_next(artifact: Path) -> None:
    encoder = stcompile.load(artifact, threads=1)
    expected = encoder.encode("hello")
    engine = encoder._routes[""]._engine
    with pytest.raises(RuntimeError, match="shape"):
        engine.run({"input_ids": np.zeros((1, 2, 3), np.int64)}, _OUTPUTS)
    assert np.array_equal(encoder.encode("hello"), expected)


def test_it_runs_on_cpu_alone(artifact: Path) -> None:
    with pytest.raises(ProviderError, match=r"OpenVINO artifacts run on CPU, not on cuda:0: load with device='cpu'"):
        stcompile.load(artifact, device="cuda")


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_honoured(threads: int, artifact: Path) -> None:
    """As far as there are CPUs: more of them OpenVINO does not start."""
    model = engine_of(artifact, threads=threads)._model
    assert model.get_property("INFERENCE_NUM_THREADS") == min(threads, available_cpus())
    assert model.get_property("NUM_STREAMS") == 1


def test_the_engine_is_told_the_number_type_and_to_quantize_nothing(artifact: Path) -> None:
    """By itself it would compute in bfloat16 where the CPU has it, and in 8 bits where weights are."""
    model = engine_of(artifact)._model
    assert model.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    assert int(model.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE")) == 0
    assert not model.get_property("ENABLE_CPU_PINNING")


def test_bfloat16_is_computed_or_refused_but_never_replaced(copy: Path) -> None:
    expected = stcompile.load(copy).encode("hello world")
    manifest = open_artifact(copy).manifest
    write_manifest(copy, dataclasses.replace(manifest, engine=EngineSpec("openvino", "bfloat16")))
    if computes_bfloat16():
        found = stcompile.load(copy).encode("hello world")
        assert not np.array_equal(found, expected)
        assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) >= BFLOAT16
    else:
        with pytest.raises(ProviderError, match=r"computes in bfloat16, which this CPU does not have.*openvino-fp32"):
            stcompile.load(copy)


def test_without_openvino_there_is_a_pip_line(artifact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(
        MissingExtraError, match=r"Running an OpenVINO artifact needs openvino.*'stcompile\[openvino\]'"
    ):
        stcompile.load(artifact)
    with pytest.raises(TargetError, match=r"cannot run openvino-int8: .*pip install 'stcompile\[openvino\]'"):
        export_model(MODELS / _CASE, tmp_path / "artifact", "openvino-int8")


def test_another_engine_does_not_need_it(quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert stcompile.load(quick(_CASE, "onnx-fp32").folder).encode("hello").shape == (24,)


_LOAD = """
import sys, stcompile
vectors = stcompile.load(sys.argv[1], threads=1).encode(["hello", ""])
print(vectors.shape, "openvino" in sys.modules, "openvino_telemetry" in sys.modules)
"""

_COMPILE = """
import pathlib, sys, onnx_ir as ir
from stcompile.compiler.trace.openvino import write_openvino_graphs
text = '''<ir_version: 10, opset_import: ["" : 20]>
g (float[batch, 4] x) => (float[batch, 4] sentence_embedding) { sentence_embedding = Relu(x) }'''
write_openvino_graphs({"": ir.from_onnx_text(text)}, pathlib.Path(sys.argv[1]), half_weights=False, name="small")
print("openvino" in sys.modules, "openvino_telemetry" in sys.modules)
"""


def _at_home(script: str, home: Path, argument: Path) -> str:
    """Runs Python with an empty home folder."""
    home.mkdir()
    command = [sys.executable, "-c", script, str(argument)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**environment, "HOME": str(home)})
    assert list(home.rglob("*")) == []
    return done.stdout.strip()


def test_nothing_is_reported_and_nothing_is_written_to_the_home_folder(artifact: Path, tmp_path: Path) -> None:
    """openvino's import would load a package that puts an identity of the user there."""
    assert _at_home(_LOAD, tmp_path / "home", artifact) == "(2, 24) True False"


def test_compiling_writes_nothing_to_the_home_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert _at_home(_COMPILE, tmp_path / "home", tmp_path / "out") == "True False"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.bin", "model.xml"]


def test_a_program_that_wants_telemetry_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = object()
    monkeypatch.setitem(sys.modules, "openvino_telemetry", theirs)
    import_openvino("This test")
    assert sys.modules["openvino_telemetry"] is theirs
    monkeypatch.delitem(sys.modules, "openvino_telemetry")
    import_openvino("This test")
    assert "openvino_telemetry" not in sys.modules


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.xml", b"not a graph"),
        ("model.xml", b"<?xml version='1.0'?><net name='x' version='11'><layers><layer id='0'"),
        ("model.xml", b""),
        ("model.xml", None),
        ("model.bin", b""),
        ("model.bin", b"\0" * 64),
        ("model.bin", None),
    ],
)
def test_a_graph_the_engine_cannot_load_is_one_sentence(file: str, content: bytes | None, copy: Path) -> None:
    if content is None:
        (copy / file).unlink()
    else:
        (copy / file).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"OpenVINO .* cannot load model\.xml: .+"):
        engine_of(copy)
    with pytest.raises(ArtifactError, match=r"model\.(xml|bin)"):
        stcompile.load(copy)


def test_outputs_are_found_by_name(quick: Quick) -> None:
    """In whatever order they are asked for."""
    both = ("sentence_embedding", "token_embeddings")
    folder = quick("full_stack", "openvino-fp32", outputs=both).folder
    engine = engine_of(folder, outputs=both)
    names = [item.name for item in open_artifact(folder).manifest.graphs[0].inputs]
    feeds = {name: np.ones((2, 16), np.int64) for name in names}
    sentence, tokens = engine.run(feeds, both)
    assert (sentence.shape[0], tokens.shape[:2]) == (2, (2, 16))
    again, first = engine.run(feeds, both[::-1])
    assert np.array_equal(first, sentence)
    assert np.array_equal(again, tokens)
    (alone,) = engine.run(feeds, both[1:])
    assert np.array_equal(alone, tokens)


@pytest.mark.parametrize("version", ["2025.4.1-20426-82bbf0292c5-releases/2025/4", "2026.2.0"])
def test_a_release_that_computes_wrongly_is_refused_by_name(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 2026.0 an empty text of a static model is NaN, before 2026.3 some networks crash the process."""
    monkeypatch.setattr(import_openvino("This"), "__version__", version)
    number = version.partition("-")[0]
    with pytest.raises(MissingExtraError, match=rf"^This needs openvino 2026\.3 or later, and {number} is installed"):
        import_openvino("This")


_ON_ONE_CPU = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
import stcompile
texts = [f"a text of {'many ' * (place % 40)}words, number {place}" for place in range(64)]
with stcompile.load(sys.argv[1]) as encoder:
    for size in (32, 1, 5, 64, 17, 32, 1):
        encoder.encode(texts, batch_size=size)
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="nothing to pin a process with")
def test_a_process_with_one_cpu_encodes_batches_of_all_sizes(quick: Quick) -> None:
    """OpenVINO spoils its heap there where it is asked to give memory back."""
    folder = quick("backbone_modernbert", "openvino-fp32").folder
    done = subprocess.run([sys.executable, "-c", _ON_ONE_CPU, str(folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr[-300:]
