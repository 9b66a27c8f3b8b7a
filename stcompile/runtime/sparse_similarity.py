"""How alike sparse vectors are, without a dense matrix of both."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stcompile.runtime.sparse_vectors import SparseVector, SparseVectors

Row = NDArray[np.float64]

# What cosine divides by at least, as torch.nn.functional.normalize.
_SHORTEST = 1e-12


def similarity(name: str, left: SparseVectors, right: SparseVectors) -> NDArray[np.float32]:
    """Of each of `left` with each of `right`, float32 `(n, m)`: `dot`, `cosine`, `euclidean` or `manhattan`."""
    measured = _MEASURES[name]
    result = np.empty((len(left), len(right)), np.float32)
    if not len(right):
        return result
    scratch = np.zeros(left.dim, np.float64)
    for place, row in enumerate(left):
        scratch[row.indices] = row.values
        result[place] = measured(scratch, row, right)
        scratch[row.indices] = 0
    return result


def _summed(each: Row, of: SparseVectors) -> Row:
    """The sum over each vector of what stands at its numbers."""
    return np.bincount(of.rows, weights=each, minlength=len(of)).astype(np.float64, copy=False)


def _dot(scratch: Row, row: SparseVector, right: SparseVectors) -> Row:
    return _summed(scratch[right.indices] * right.values, right)


def _squares(right: SparseVectors) -> Row:
    return _summed(np.square(right.values, dtype=np.float64), right)


def _cosine(scratch: Row, row: SparseVector, right: SparseVectors) -> Row:
    own = max(float(np.sqrt(np.square(row.values, dtype=np.float64).sum())), _SHORTEST)
    found: Row = _dot(scratch, row, right) / own / np.maximum(np.sqrt(_squares(right)), _SHORTEST)
    return found


def _euclidean(scratch: Row, row: SparseVector, right: SparseVectors) -> Row:
    own = np.square(row.values, dtype=np.float64).sum()
    squares: Row = np.maximum(own + _squares(right) - 2 * _dot(scratch, row, right), 0)
    return -np.sqrt(squares)


def _manhattan(scratch: Row, row: SparseVector, right: SparseVectors) -> Row:
    own = np.abs(row.values, dtype=np.float64).sum()
    there = scratch[right.indices]
    found: Row = -(own + _summed(np.abs(right.values - there) - np.abs(there), right))
    return found


_MEASURES: dict[str, Callable[[Row, SparseVector, SparseVectors], Row]] = {
    "dot": _dot,
    "cosine": _cosine,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
}
