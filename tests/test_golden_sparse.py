"""Text to sparse vector through the torch-free runtime, against vectors that sentence-transformers itself gave."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import stcompile
from stcompile.artifact.report import read_report
from stcompile.runtime.sparse_vectors import SparseVectors, rows_of
from tests.conftest import Compiled, Quick, cases_of, load_case

CASES = cases_of("SparseEncoder")

# Largest difference of a number, in proportion to the largest of its vector. Measured over all cases, 3.9e-6 with
# AVX2 and 6.1e-6 with AVX-512: the logarithm of logits up to 40, which are rounded in proportion to their own size.
FLOAT32_ROUNDING = 9e-6


@pytest.mark.parametrize("name", CASES)
def test_vectors_are_those_of_sentence_transformers(name: str, compiled: Compiled) -> None:
    case = load_case(name)
    encoder = stcompile.SparseEncoder.load(compiled(name), threads=1)
    for run in case.runs.values():
        found = getattr(encoder, run["method"])(case.texts, **run["kwargs"])
        assert isinstance(found, SparseVectors)
        assert_close(case.expected(run["name"]), found)


@pytest.mark.parametrize("name", [name for name in CASES if "router" not in name])
def test_what_is_read_gives_the_vectors_of_sentence_transformers(name: str) -> None:
    """In torch, before any of the largest numbers is chosen."""
    case = load_case(name)
    stack = stcompile.load_stack(case.model)
    found = stack.encode(case.texts, stack.default_prompt)
    expected = case.expected("many" if "many" in case.runs else "default")
    assert np.abs(found - expected)[expected != 0].max() <= FLOAT32_ROUNDING * np.abs(expected).max()


def assert_close(expected: npt.NDArray[Any], found: SparseVectors) -> None:
    dense = found.toarray()
    assert dense.shape == expected.shape
    assert dense.dtype == expected.dtype == np.float32
    assert np.array_equal(np.diff(found.indptr), np.count_nonzero(expected, axis=1))
    assert np.array_equal(dense != 0, expected != 0)
    largest = np.abs(expected).max(axis=1, keepdims=True)
    assert (np.abs(dense - expected) <= FLOAT32_ROUNDING * largest).all()


def test_the_comparison_can_fail() -> None:
    case = load_case("sparse_splade")
    expected = case.expected("five")
    for change in (3e-5, -1.0):
        moved = expected.copy()
        row, column = np.argwhere(expected > 0)[0]
        moved[row, column] *= 1 + change
        with pytest.raises(AssertionError):
            assert_close(expected, SparseVectors.of(rows_of(moved, None), expected.shape[1]))


# Smallest cosine of a vector with that of sentence-transformers. Measured: 0.9997, 0.99996, 0.9996 and 1.
LEAST = {"onnx-int8": 0.999, "onnx-bf16": 0.9999, "onnx-int8-weights": 0.999, "openvino-fp32": 0.999999}


@pytest.mark.parametrize("target", LEAST)
@pytest.mark.parametrize("name", ["sparse_splade", "sparse_csr"])
def test_lower_precision_is_near(name: str, target: str, quick: Quick) -> None:
    report = read_report(quick(name, target, min_cosine=0.5)).parity
    assert report.min_cosine >= LEAST[target]
