"""How accuracy is measured while a plan is searched: on which texts, and by which number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from stcompile.compiler.metrics import Matrix, distance, pair_correlation
from stcompile.compiler.quantize.calibration import Batch


class Measure(ABC):
    """One number for how near the vectors of a plan are to those of the float32 graph.

    Attributes:
        name: as the report records it.
        larger_is_better: whether the number is a closeness, at best 1, or a drop, at best 0.
        batches: the texts, as a graph's inputs.
    """

    name: str
    larger_is_better: bool

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = tuple(batches)

    @property
    def count(self) -> int:
        """Texts, or pairs of texts."""
        return sum(len(batch.rows) for batch in self.batches)

    @abstractmethod
    def __call__(self, reference: Matrix, found: Matrix) -> float:
        """The number, of rows in the batches' order."""


class MinCosine(Measure):
    """Smallest cosine of any text's two vectors."""

    name, larger_is_better = "min_cosine", True

    def __call__(self, reference: Matrix, found: Matrix) -> float:
        return float(distance(reference, found).cosine.min())


class MeanCosineDrop(Measure):
    """1 - mean cosine: the share of the vectors that is lost, of that set of texts that loses most.

    Args:
        sets: batches of each set. A mean over all could hide what is lost on the texts that parity is judged on.
    """

    name, larger_is_better = "mean_cosine_drop", False

    def __init__(self, *sets: Sequence[Batch]) -> None:
        self._sizes = [sum(len(batch.rows) for batch in batches) for batches in sets if batches]
        super().__init__([batch for batches in sets for batch in batches])

    def __call__(self, reference: Matrix, found: Matrix) -> float:
        ends = np.cumsum(self._sizes)[:-1]
        parts = zip(np.split(reference, ends), np.split(found, ends), strict=True)
        return max(lost(*part) for part in parts)


class SpearmanDrop(Measure):
    """Relative loss of rank correlation between the similarity of pairs of texts and their scores.

    Args:
        batches: the texts of the pairs, first and second in turn: rows 2i and 2i + 1 are a pair.
        scores: of the pairs, on any scale.
    """

    name, larger_is_better = "spearman_drop", False

    def __init__(self, batches: Sequence[Batch], scores: Sequence[float]) -> None:
        super().__init__(batches)
        self._scores = list(scores)
        self._order = np.argsort([row for batch in self.batches for row in batch.rows])

    @property
    def count(self) -> int:
        """Pairs of texts."""
        return len(self._scores)

    def __call__(self, reference: Matrix, found: Matrix) -> float:
        before, after = (self._correlation(rows) for rows in (reference, found))
        return (before - after) / abs(before) if before else 0.0

    def _correlation(self, rows: Matrix) -> float:
        return pair_correlation(rows[self._order], self._scores)


def lost(reference: Matrix, found: Matrix) -> float:
    """1 - mean cosine, row by row."""
    return float(1 - distance(reference, found).cosine.mean())
