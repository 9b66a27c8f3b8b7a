"""Lower precision of every kind of module: within its tolerance, or refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import stcompile
from stcompile.artifact.report import read_report
from stcompile.compiler.export import export_model
from stcompile.compiler.modules import LSTM, Pooling, WhitespaceTokenizer, WordEmbeddings
from stcompile.compiler.stack.module_stack import ModuleStack
from stcompile.compiler.stack.save import save_stack
from stcompile.errors import UnsupportedError
from tests.conftest import Quick, load_case

# Smallest cosine with the vectors of sentence-transformers; behind each, what was measured over the cases.
LEAST = {
    "onnx-fp16": 0.99999,  # 0.9999986
    "onnx-int8": 0.99,  # 0.9954
    "onnx-int8-dynamic": 0.99,  # 0.9980
    "onnx-int8-weights": 0.999,  # 0.9996
    "onnx-int4-weights": 0.9,  # 0.929
    "openvino-fp32": 0.999999,  # 1 - 2e-13
    "openvino-fp16": 0.99999,  # 0.9999986
    "openvino-int8": 0.99,  # 0.9954
    "openvino-int8-weights": 0.999,  # 0.9995
    "openvino-int4-weights": 0.9,  # 0.926
    "openvino-int8-nncf": 0.97,  # 0.9765
    "openvino-int4-nncf": 0.87,  # 0.884
}

# The targets that make layers and tables of fewer bits
INTEGERS = [name for name in LEAST if "-int" in name]

# Two float32 computations of another batch.
ROUNDING = 2e-6


@dataclass(frozen=True)
class Kind:
    """What int8 makes of a golden model: nothing where both are false, and what it says it kept."""

    tables: bool
    matmuls: bool = False
    kept: str = ""


# A golden model of each kind of module.
INT8 = {
    "static": Kind(tables=True),
    "static_dense": Kind(tables=True, kept="Dense on the pooled vector"),
    "wordemb_transformers_tokenizer": Kind(tables=True),
    "transformer_wordweights": Kind(tables=True, matmuls=True),
    "weighted_layer_pooling": Kind(tables=True, matmuls=True),
    "cnn_over_transformer": Kind(tables=True, matmuls=True, kept="2 convolution"),
    "router_first_static_query": Kind(tables=True, matmuls=True, kept="Dense on the pooled vector"),
    "custom_module": Kind(tables=True, matmuls=True),
    # Tables of a hundred words
    "wordemb_mean": Kind(tables=False),
    "wordemb_cnn": Kind(tables=False),
    "wordemb_lstm_bi": Kind(tables=False),
    "wordemb_wordweights_mean": Kind(tables=False),
    # Its only weights belong to a Dense on the pooled vector
    "bow_dense_normalize": Kind(tables=False),
    "bow_binary": Kind(tables=False),
}

REFUSED = {
    **{target: [name for name, kind in INT8.items() if not (kind.tables or kind.matmuls)] for target in INTEGERS},
    "onnx-fp16": ["bow_binary"],
}


# Compiled for every target in each run of the tests: one of each front end, and what has layers of every kind. The
# others for one that says what was kept, and for all in the slow tiers.
OFTEN = ("static_dense", "cnn_over_transformer", "wordemb_lstm_bi", "bow_binary")
FEW = ("onnx-int8",)


def marked(name: str, target: str) -> Any:
    """A pair for `parametrize`."""
    return pytest.param(name, target, marks=() if name in OFTEN or target in FEW else pytest.mark.more_models)


def pairs(*, refused: bool) -> list[Any]:
    """Case by case, for a case is traced once."""
    return [marked(name, target) for name in INT8 for target in LEAST if (name in REFUSED.get(target, ())) is refused]


def cosines(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Of the rows that point anywhere."""
    some = np.isfinite(left).all(axis=1) & (left != 0).any(axis=1)
    a, b = left[some].astype(np.float64), right[some].astype(np.float64)
    found: npt.NDArray[np.float64] = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return found


@pytest.mark.parametrize(("name", "target"), pairs(refused=False))
def test_it_is_near_sentence_transformers(name: str, target: str, quick: Quick) -> None:
    case = load_case(name)
    vectors = stcompile.load(quick(name, target).folder, threads=1).encode(case.texts)
    expected = case.expected()
    assert np.array_equal(np.isinf(vectors), np.isinf(expected))
    assert cosines(expected, vectors).min() >= LEAST[target]


@pytest.mark.parametrize(
    ("name", "target"),
    [marked(name, target) for name in INT8 if name not in REFUSED["onnx-int8"] for target in INTEGERS],
)
def test_the_report_tells_what_was_done(name: str, target: str, quick: Quick) -> None:
    artifact = quick(name, target)
    done = read_report(artifact).quantization
    assert done is not None
    kind = INT8[name]
    assert (done.embeddings > 0, done.matmuls > 0) == (kind.tables, kind.matmuls)
    assert kind.kept in "\n".join(done.kept)
    assert artifact.manifest.batch_invariant is (target != "onnx-int8-dynamic" or not kind.matmuls)
    assert bool(done.layers) is kind.matmuls
    assert (done.calibration is None) is (target == "onnx-int8-dynamic" or not kind.matmuls)
    assert sum(layer.matmuls for layer in done.layers if layer.bits < 32) == done.matmuls


@pytest.mark.parametrize(("name", "target"), pairs(refused=True))
def test_what_would_become_no_smaller_is_refused(name: str, target: str, quick: Quick, tmp_path: Path) -> None:
    exact = f"{target.partition('-')[0]}-fp32"
    with pytest.raises(UnsupportedError, match=f"{name} .* nothing that {target} makes smaller.*{exact}"):
        quick(name, target, tmp_path / "artifact")
    assert not any(tmp_path.iterdir())


def words_model(folder: Path, words: int) -> Path:
    """Word embeddings behind an LSTM, saved."""
    table = np.random.default_rng(5).standard_normal((words, 8)).astype(np.float32)
    tokenizer = WhitespaceTokenizer([f"w{number}" for number in range(words)], ())
    save_stack(ModuleStack([WordEmbeddings(tokenizer, table), LSTM(8, 6), Pooling(12)]), folder)
    return folder


def test_a_table_of_256_words_becomes_int8_and_the_batch_does_not_matter(tmp_path: Path) -> None:
    texts = ["w3 w4", "w255", "w1 w2 w250", "", " ".join(f"w{number}" for number in range(0, 256, 3))]
    artifact = export_model(words_model(tmp_path / "model", 256), tmp_path / "artifact", "onnx-int8", texts=texts)
    done = read_report(artifact).quantization
    assert done is not None
    assert (done.embeddings, done.matmuls) == (1, 0)
    assert "2 LSTM: its state would carry the error of every step to the next" in done.kept
    assert artifact.manifest.batch_invariant
    encoder = stcompile.load(artifact.folder)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    lengths = np.maximum(np.linalg.norm(alone, axis=1, keepdims=True), 1e-9)
    assert (np.abs(encoder.encode(texts) - alone) / lengths).max() <= ROUNDING


def test_a_table_of_255_words_is_too_small(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="nothing that onnx-int8 makes smaller"):
        export_model(words_model(tmp_path / "model", 255), tmp_path / "artifact", "onnx-int8", texts=["w3 w4"])


@pytest.mark.parametrize("target", [*INTEGERS, "onnx-fp16", "openvino-fp16"])
def test_a_static_model_becomes_smaller(target: str, quick: Quick) -> None:
    runtime = target.partition("-")[0]
    file = "model.bin" if runtime == "openvino" else "model.onnx"
    sizes = [(quick("static", name).folder / file).stat().st_size for name in (target, f"{runtime}-fp32")]
    assert sizes[0] < (0.45 if target in INTEGERS else 0.6) * sizes[1]


@pytest.mark.more_models
def test_no_table_becomes_larger(quick: Quick) -> None:
    """A scale is as wide as a float: a row of one number has nothing to gain."""
    done = read_report(quick("transformer_wordweights", "onnx-int8")).quantization
    without = read_report(quick("weighted_layer_pooling", "onnx-int8")).quantization
    assert done is not None
    assert without is not None
    assert done.embeddings == without.embeddings
