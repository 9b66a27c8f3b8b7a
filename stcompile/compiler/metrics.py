"""How far two sets of vectors are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Float32 `(n, dim)`; of texts of several vectors each an array of objects, of each text float32 `(tokens, dim)`.
Matrix = NDArray[Any]

NEIGHBOURS = 10

# The error of a row with a NaN: a number that JSON can carry and no tolerance allows.
BROKEN = float(np.finfo(np.float32).max)

# All pairs are compared: 4096 rows are 134 MB of similarities.
_MOST_ROWS = 4096


@dataclass(frozen=True)
class Distance:
    """Differences per text, on rows scaled by the length of the reference row.

    Attributes:
        abs_error: largest absolute difference of any component, `(n,)`.
        cosine: cosine similarity, `(n,)`; 1 where both rows are zero, 0 where only one is.
    """

    abs_error: NDArray[np.float64]
    cosine: NDArray[np.float64]


def as_ragged(rows: Sequence[NDArray[Any]]) -> Matrix:
    """Vectors of texts of which each has its own number, as an array of objects `(n,)`."""
    found = np.empty(len(rows), dtype=object)
    for place, row in enumerate(rows):
        found[place] = row
    return found


def together(rows: Sequence[NDArray[Any]]) -> Matrix:
    """What each of some texts, one at least, has, a vector or several, as one."""
    return np.stack(rows) if rows[0].ndim == 1 else as_ragged(rows)


def is_ragged(rows: Matrix) -> bool:
    """Whether a text has several vectors."""
    return rows.dtype == object


def joined(rows: Matrix) -> Matrix:
    """All vectors, `(n, dim)`, those of one text behind those of the one before it."""
    return np.concatenate(list(rows)) if is_ragged(rows) else rows


def has_nan(rows: Matrix) -> bool:
    """Whether some number is none."""
    return any(bool(np.isnan(row).any()) for row in rows) if is_ragged(rows) else bool(np.isnan(rows).any())


def equal(left: Matrix, right: Matrix) -> bool:
    """Whether two sets of vectors are the same, bit by bit; NaN is NaN."""
    return len(left) == len(right) and all(
        np.array_equal(one, other, equal_nan=True) for one, other in zip(left, right, strict=True)
    )


def distance(reference: Matrix, candidate: Matrix) -> Distance:
    """Compares row by row what is `(n, dim)` on both sides; of texts of several vectors, a text's worst one counts.

    Equal infinities (max pooling over nothing) count as equal; a NaN, or an infinity on one side only, is an
    error of `BROKEN` and a cosine of -1; so is a text with another number of vectors on one side than on the other.
    """
    if is_ragged(reference):
        return _of_worst(reference, candidate)
    left, right = reference.astype(np.float64), candidate.astype(np.float64)
    agreed = np.isinf(left) & (left == right)
    left, right = np.where(agreed, 0, left), np.where(agreed, 0, right)
    broken = ~(np.isfinite(left) & np.isfinite(right)).all(axis=1)
    left, right = np.nan_to_num(left, posinf=0, neginf=0), np.nan_to_num(right, posinf=0, neginf=0)
    left_length, right_length = np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1)
    scale = np.where(left_length > 0, left_length, 1)
    error = np.abs(left - right).max(axis=1, initial=0) / scale
    both = left_length * right_length
    cosine = np.divide((left * right).sum(axis=1), both, out=np.zeros_like(both), where=both > 0)
    cosine = np.where((left_length == 0) & (right_length == 0), 1, cosine)
    return Distance(np.where(broken, BROKEN, error), np.where(broken, -1, np.clip(cosine, -1, 1)))


def compared(reference: Matrix, found: Matrix) -> Distance:
    """Row by row; rows of another number or width, which another tokenizer or module makes, are all broken."""
    if reference.shape != found.shape or is_ragged(reference) != is_ragged(found):
        return Distance(np.full(len(found), BROKEN), np.full(len(found), -1.0))
    return distance(reference, found)


def _of_worst(reference: Matrix, candidate: Matrix) -> Distance:
    errors, cosines = np.zeros(len(reference)), np.ones(len(reference))
    for place, (left, right) in enumerate(zip(reference, candidate, strict=True)):
        if left.shape != right.shape:
            errors[place], cosines[place] = BROKEN, -1
        elif len(left):
            found = distance(left, right)
            errors[place], cosines[place] = found.abs_error.max(), found.cosine.min()
    return Distance(errors, cosines)


def centred(scores: Matrix) -> Matrix:
    """Scores `(n, labels)` about the mean of each label, all of them as one row."""
    found: Matrix = scores - scores.mean(axis=0, keepdims=True)
    return found.reshape(1, -1)


def neighbour_overlap(reference: Matrix, candidate: Matrix, count: int = NEIGHBOURS) -> float:
    """Mean share of each text's `count` nearest texts that both sets of vectors agree on.

    What retrieval would notice. Identical texts and ties make it less than 1 even for equal rankings of equal
    value, so it is reported, not judged. Of more than `_MOST_ROWS` rows an even sample is compared.
    """
    if len(reference) > _MOST_ROWS:
        sample = np.linspace(0, len(reference) - 1, _MOST_ROWS).astype(np.int64)
        reference, candidate = reference[sample], candidate[sample]
    count = min(count, len(reference) - 1)
    if count < 1:
        return 1.0
    shared = 0
    for left, right in zip(_nearest(reference, count), _nearest(candidate, count), strict=True):
        shared += len(set(left.tolist()) & set(right.tolist()))
    return shared / (len(reference) * count)


def spearman(left: Sequence[float] | NDArray[np.float64], right: Sequence[float] | NDArray[np.float64]) -> float:
    """Rank correlation, -1 to 1; equal values share their mean rank. 0 where one side is constant."""
    a, b = (_ranks(np.asarray(side, dtype=np.float64)) for side in (left, right))
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / scale) if scale else 0.0


def pair_correlation(vectors: Matrix, scores: Sequence[float]) -> float:
    """Rank correlation of the cosine of each pair of neighbouring rows, `(2n, dim)`, with its score."""
    return spearman(distance(vectors[0::2], vectors[1::2]).cosine, scores)


def rounded(value: float) -> float:
    """Seven significant digits: what float32 carries, and the same bytes on every run."""
    return float(f"{float(value):.7g}")


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: NDArray[np.float64] = ((ends - counts + ends - 1) / 2)[group]
    return ranks


def _nearest(vectors: Matrix, count: int) -> NDArray[np.int64]:
    finite = np.nan_to_num(vectors.astype(np.float64), posinf=0, neginf=0)
    lengths = np.maximum(np.linalg.norm(finite, axis=1, keepdims=True), 1e-12)
    scores = (finite / lengths) @ (finite / lengths).T
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]
