"""Pair to score through the torch-free runtime, against scores that sentence-transformers itself gave."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import stcompile
from stcompile.artifact.report import read_report
from tests.conftest import Compiled, Quick, cases_of, load_case

CASES = cases_of("CrossEncoder")

# Largest difference of a score, in standard deviations of the case's logits. Measured over all cases: 4.6e-6.
FLOAT32_ROUNDING = 1e-5

# Smallest cosine of a query's centred scores with those of sentence-transformers. Measured: 0.9971, 0.99991 and 1.
LEAST = {"onnx-int8": 0.99, "onnx-bf16": 0.9998, "openvino-fp32": 0.999999}


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_sentence_transformers(name: str, compiled: Compiled) -> None:
    case = load_case(name)
    reranker = stcompile.Reranker.load(compiled(name), threads=1)
    for run in case.runs.values():
        found = reranker.predict(case.texts, **run["kwargs"])
        assert_close(case.expected(run["name"]), found, case.expected("logits"))


def assert_close(expected: npt.NDArray[Any], found: npt.NDArray[Any], logits: npt.NDArray[Any]) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype == np.float32
    assert np.abs(found - expected).max() <= FLOAT32_ROUNDING * logits.std(axis=0).max()


def test_the_comparison_can_fail() -> None:
    expected = load_case("reranker_bert").expected("logits")
    moved = expected.copy()
    moved[3] += 3e-5 * expected.std()
    with pytest.raises(AssertionError):
        assert_close(expected, moved, expected)


@pytest.mark.parametrize("target", LEAST)
@pytest.mark.parametrize("name", ["reranker_bert", "reranker_modernbert_v6", "reranker_qwen3"])
def test_lower_precision_keeps_the_order(name: str, target: str, quick: Quick) -> None:
    report = read_report(quick(name, target, min_cosine=0.5)).parity
    assert report.min_cosine >= LEAST[target]
