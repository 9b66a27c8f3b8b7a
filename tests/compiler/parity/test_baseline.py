"""Two artifacts beside each other: the same is the same, and what moved is found, of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from stcompile.compiler.parity.baseline import drift
from stcompile.compiler.parity.thresholds import Thresholds
from stcompile.errors import ArtifactError, ModelFolderError
from tests.conftest import Compiled

TEXTS = ["hello world", "", "a dog", "the quick brown fox", "one more", "42", "the last one", "a longer text of words"]

# One of each kind, in two targets that differ.
OTHERS = ("router_first_static_query", "sparse_splade", "multi_vector_fixed")
KINDS = ["pool_mean", "reranker_bert", *(pytest.param(name, marks=pytest.mark.more_models) for name in OTHERS)]


@pytest.mark.parametrize("case", KINDS)
def test_the_same_is_the_same(case: str, compiled: Compiled) -> None:
    found = drift(compiled(case), compiled(case), texts=TEXTS)
    assert found.passed
    assert (found.parity.max_abs_error, found.parity.min_cosine, found.parity.neighbour_overlap) == (0, 1, 1)
    assert "the artifact" in found.parity.reference


@pytest.mark.parametrize("case", KINDS)
def test_what_moved_is_found(case: str, compiled: Compiled) -> None:
    known, other = (compiled(case, target) for target in ("onnx-fp32", "onnx-int8"))
    found = drift(other, known, texts=TEXTS)
    assert not found.passed
    assert found.parity.min_cosine < 0.9999
    assert found.evidence.worst(1)
    # What the caller allows is allowed.
    assert drift(other, known, texts=TEXTS, thresholds=Thresholds(min_cosine=0.5)).passed


def test_other_models_are_not_compared(compiled: Compiled, tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match=r"cannot be compared: kind encoder beside reranker; .*same model"):
        drift(compiled("pool_mean"), compiled("reranker_bert"), texts=TEXTS)
    with pytest.raises(ArtifactError, match="there is no artifact"):
        drift(compiled("pool_mean"), tmp_path / "nothing", texts=TEXTS)
