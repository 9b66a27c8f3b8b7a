"""How alike sparse vectors are, without a dense matrix of both."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stcompile.runtime.sparse_vectors import SparseVector, SparseVectors

Row = NDArray[np.float64]

# What cosine divides by at least, as torch.nn.functional.normalize.
_SHORTEST = 1e-12


def similarity(name: str, left: SparseVectors, right: SparseVectors) -> NDArray[np.float32]:
    """Of each of `left` with each of `right`, float32 `(n, m)`: `dot`, `cosine`, `euclidean` or `manhattan`."""
    measured, others = _MEASURES[name], _Others(right)
    result = np.empty((len(left), len(right)), np.float32)
    scratch = np.zeros(left.dim, np.float64)
    for place, row in enumerate(left if len(right) else ()):
        scratch[row.indices] = row.values
        result[place] = measured(scratch[right.indices], row, others)
        scratch[row.indices] = 0
    return result


class _Others:
    """What one vector after the other is compared with, and what of it is the same for all of them."""

    def __init__(self, vectors: SparseVectors) -> None:
        self.values = vectors.values.astype(np.float64)
        self._rows, self._count = vectors.rows, len(vectors)

    def summed(self, each: Row) -> Row:
        """The sum over each vector of what stands at its numbers."""
        return np.bincount(self._rows, weights=each, minlength=self._count).astype(np.float64, copy=False)

    @cached_property
    def squares(self) -> Row:
        """The squared length of each."""
        return self.summed(np.square(self.values))


def _dot(there: Row, row: SparseVector, right: _Others) -> Row:
    return right.summed(there * right.values)


def _cosine(there: Row, row: SparseVector, right: _Others) -> Row:
    own = max(float(np.sqrt(np.square(row.values, dtype=np.float64).sum())), _SHORTEST)
    found: Row = _dot(there, row, right) / own / np.maximum(np.sqrt(right.squares), _SHORTEST)
    return found


def _euclidean(there: Row, row: SparseVector, right: _Others) -> Row:
    own = np.square(row.values, dtype=np.float64).sum()
    squares: Row = np.maximum(own + right.squares - 2 * _dot(there, row, right), 0)
    return -np.sqrt(squares)


def _manhattan(there: Row, row: SparseVector, right: _Others) -> Row:
    own = np.abs(row.values, dtype=np.float64).sum()
    found: Row = -(own + right.summed(np.abs(right.values - there) - np.abs(there)))
    return found


_MEASURES: dict[str, Callable[[Row, SparseVector, _Others], Row]] = {
    "dot": _dot,
    "cosine": _cosine,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
}
