"""Two artifacts beside each other: the same is the same, and what moved is found, of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from stcompile.compiler.parity.baseline import drift
from stcompile.compiler.parity.thresholds import Thresholds
from stcompile.errors import ArtifactError, ModelFolderError
from tests.conftest import Compiled

TEXTS = ["hello world", "", "a dog", "the quick brown fox", "one more", "42", "the last one", "a longer text of words"]

# One of each kind, with the targets that differ.
KINDS = {
    "pool_mean": ("onnx-fp32", "onnx-int8"),
    "router_first_static_query": ("onnx-fp32", "onnx-int8"),
    "reranker_bert": ("onnx-fp32", "onnx-int8"),
    "sparse_splade": ("onnx-fp32", "onnx-int8"),
    "multi_vector_fixed": ("onnx-fp32", "onnx-int8"),
}


@pytest.mark.parametrize("case", KINDS)
def test_the_same_is_the_same(case: str, compiled: Compiled) -> None:
    found = drift(compiled(case), compiled(case), texts=TEXTS)
    assert found.passed
    assert (found.parity.max_abs_error, found.parity.min_cosine, found.parity.neighbour_overlap) == (0, 1, 1)
    assert "the artifact" in found.parity.reference


@pytest.mark.parametrize("case", KINDS)
def test_what_moved_is_found(case: str, compiled: Compiled) -> None:
    known, other = (compiled(case, target) for target in KINDS[case])
    found = drift(other, known, texts=TEXTS)
    assert not found.passed
    assert found.parity.min_cosine < 0.9999
    assert found.evidence.worst(1)[0].text
    # What the caller allows is allowed.
    assert drift(other, known, texts=TEXTS, thresholds=Thresholds(min_cosine=0.5)).passed


def test_other_models_are_not_compared(compiled: Compiled, tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match=r"cannot be compared: kind encoder beside reranker; .*same model"):
        drift(compiled("pool_mean"), compiled("reranker_bert"), texts=TEXTS)
    with pytest.raises(ArtifactError, match="there is no artifact"):
        drift(compiled("pool_mean"), tmp_path / "nothing", texts=TEXTS)
