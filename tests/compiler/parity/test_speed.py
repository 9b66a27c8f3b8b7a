"""What `verify --speed` times: the same work of both, whatever an artifact is of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from stcompile.artifact import open_artifact
from stcompile.artifact.manifest import RERANKER
from stcompile.compiler.parity.reference import open_reference
from stcompile.compiler.parity.speed import Contender, measured, of_artifact, of_reference
from stcompile.compiler.stack.source import ModelSource
from tests.conftest import MODELS, Compiled

TEXTS = ["hello world", "a dog", "one more", "a cat sat on the mat"]


@pytest.mark.parametrize("case", ["pool_mean", "router_no_default", "reranker_bert", "multi_vector_bert"])
def test_both_make_the_same_vectors(case: str, compiled: Compiled) -> None:
    artifact = open_artifact(compiled(case))
    kind = artifact.manifest.kind
    pairs = list(zip(TEXTS, reversed(TEXTS), strict=True))
    inputs: list[Any] = pairs if kind == RERANKER else TEXTS
    ours: Any = of_artifact(artifact, inputs, "cpu")()
    theirs: Any = of_reference(artifact, open_reference(ModelSource(MODELS / case), kind), inputs)()
    if kind == RERANKER:
        # A score is the logit and its activation.
        assert np.array_equal(np.argsort(np.ravel(ours)), np.argsort(np.ravel(theirs)))
        return
    for left, right in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5)


def test_what_is_measured_is_said(compiled: Compiled) -> None:
    artifact = open_artifact(compiled("pool_mean"))
    taken = []

    def other(inputs: Sequence[Any]) -> Contender:
        taken.append(inputs)
        return lambda: None

    found = measured(artifact, TEXTS, "nothing at all", other, "cpu")
    assert taken == [TEXTS]
    assert found.count == len(TEXTS)
    assert found.ratio.low <= found.ratio.median <= found.ratio.high < 1
    assert str(found).count("nothing at all") == 1
    assert found.to_dict()["ratio"] == found.ratio.to_dict(3)
