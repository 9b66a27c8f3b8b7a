"""A long text: its own run, memory that follows its length and goes back, and the vector of sentence-transformers."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import stcompile
from stcompile.artifact import Artifact
from stcompile.artifact.report import read_report
from stcompile.kernels import native
from stcompile.runtime.engines.sizes import is_large
from stcompile.runtime.text.base import Feeds
from tests.conftest import MODELS, Compiled

_POSITIONS, _HEADS = 4096, 16

# One buffer of all scores of one layer. What made them at once held two or more: six times the limit and above.
_ALL_SCORES_MB = _HEADS * _POSITIONS**2 * 4 / 1e6
_LIMIT_MB = _ALL_SCORES_MB / 4
_GIVEN_BACK_MB = 50

_CHILD = """
import sys
import numpy as np
import stcompile

def memory(which):
    lines = open("/proc/self/status", encoding="ascii").read().splitlines()
    return int(next(line for line in lines if line.startswith(which)).split()[1]) / 1e3

folder, text, vectors = sys.argv[1:]
encoder = stcompile.load(folder, threads=1)
encoder.encode("short")
idle = memory("VmRSS")
np.save(vectors, encoder.encode([text * 5000, "short"]))
# Not ru_maxrss: a child inherits its parent's.
print(memory("VmHWM") - idle, memory("VmRSS") - idle)
"""


@pytest.fixture(scope="module")
def long_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Full and local attention, of 16 heads over 4,096 tokens, two numbers each."""
    folder = tmp_path_factory.mktemp("long") / "model"
    shutil.copytree(MODELS / "backbone_modernbert", folder)
    _edit(folder / "config.json", num_attention_heads=_HEADS, max_position_embeddings=_POSITIONS)
    _edit(folder / "tokenizer_config.json", model_max_length=_POSITIONS)
    return folder


@pytest.fixture(scope="module")
def long_artifact(long_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Artifact]:
    """One with the kernels' operators, which also have a body, and one without."""
    from stcompile.compiler.export import export_model

    @functools.cache
    def made(*, portable: bool) -> Artifact:
        folder = tmp_path_factory.mktemp("long") / "artifact"
        return export_model(long_model, folder, "onnx-fp32", texts=["hello", "hello world"], portable=portable)

    return made


@pytest.fixture(scope="module")
def expected(long_model: Path) -> npt.NDArray[np.float32]:
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(long_model), device="cpu")
    assert reference.max_seq_length == _POSITIONS
    vectors: npt.NDArray[np.float32] = reference.encode(["hello world " * 5000, "short"])
    return vectors


@pytest.mark.memory
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
@pytest.mark.parametrize("path", ["kernel", "body", "portable"])
def test_memory_follows_the_length_and_goes_back(
    path: str,
    long_artifact: Callable[..., Artifact],
    expected: npt.NDArray[np.float32],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    artifact = long_artifact(portable=path == "portable")
    if path == "body":
        monkeypatch.setenv(native.VARIABLE, native.NONE)
    (summary,) = [item for item in read_report(artifact).passes if item.name == "block-attention"]
    # Both layers have one body.
    assert (summary.rewrites, summary.refusals) == (2 if path == "portable" else 1, ())
    vectors = tmp_path / "vectors.npy"
    command = [sys.executable, "-c", _CHILD, str(artifact.folder), "hello world ", str(vectors)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, kept = map(float, done.stdout.split())
    assert peak < _LIMIT_MB
    assert kept < _GIVEN_BACK_MB
    np.testing.assert_allclose(np.load(vectors), expected, atol=2e-6)


def test_long_texts_run_alone_whatever_the_batch_size(compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = stcompile.load(compiled("pool_mean"), threads=1)
    (route,) = encoder._routes.values()
    monkeypatch.setattr("stcompile.runtime.batching.LONG", 10)
    texts = ["hello world " * count for count in (1, 9, 2, 8, 3)]
    shapes = [feeds["input_ids"].shape for _, feeds in route.batches(texts, None, 32)]
    assert [shape[0] for shape in shapes if shape[1] > 10] == [1, 1]
    assert [shape[0] for shape in shapes if shape[1] <= 10] == [3]


def test_very_long_texts_share_no_threads(compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = stcompile.load(compiled("pool_mean"), threads=2)
    (route,) = encoder._routes.values()
    monkeypatch.setattr("stcompile.runtime.route._FILLS_THREADS", 8)
    monkeypatch.setattr(type(route), "single_threaded", lambda _: pytest.fail("a second engine was opened"))
    texts = [f"hello world number {number} and more of them" for number in range(40)]
    vectors = encoder.encode(texts, batch_size=1)
    np.testing.assert_allclose(vectors[7], encoder.encode(texts[7]), atol=1e-6)


@pytest.mark.parametrize(("shape", "expected"), [((1, 1024), False), ((1, 1025), True), ((32, 64), True)])
def test_runs_whose_memory_goes_back(shape: tuple[int, int], expected: bool) -> None:
    rows: Any = np.ones(shape, np.int64)
    feeds: Feeds = {"input_ids": rows, "attention_mask": rows}
    assert is_large(feeds) is expected
    assert not is_large({"input_ids": rows.reshape(-1), "offsets": np.zeros(1, np.int64)})


def _edit(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **values}), encoding="utf-8")
