"""What distillation costs: the distilled model beside the model it imitates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact.report import DistillationSummary
from stcompile.compiler.metrics import neighbour_overlap, rounded, spearman
from stcompile.compiler.parity.probes import probe_texts
from stcompile.compiler.scored_pairs import ScoredPair, checked_pairs
from stcompile.compiler.stack.module_stack import ModuleStack

Matrix = NDArray[np.float32]


class Quality:
    """Measures a model before it is distilled, and what it was distilled into after.

    Args:
        teacher: the model.
        pairs: scored pairs of texts; None takes the project's probe texts, and how far the two models agree on
            each text's nearest.

    Raises:
        InputError: a pair is not two texts and a number.
    """

    def __init__(self, teacher: ModuleStack, pairs: Sequence[ScoredPair] | None) -> None:
        self._pairs = None if pairs is None else checked_pairs(pairs)
        self._texts = probe_texts() if self._pairs is None else [text for pair in self._pairs for text in pair[:2]]
        self._teacher = teacher.encode(self._texts, teacher.default_prompt)
        self._fingerprint = teacher.fingerprint()

    def compare(self, student: ModuleStack, pca_dims: int | None) -> DistillationSummary:
        """The same measure of both models."""
        vectors = student.encode(self._texts)
        if self._pairs is None:
            overlap = neighbour_overlap(self._teacher, vectors)
            return self._summary("neighbour_overlap", len(self._texts), 1.0, overlap, pca_dims)
        scores = [pair[2] for pair in self._pairs]
        teacher, found = (spearman(_cosines(matrix), scores) for matrix in (self._teacher, vectors))
        return self._summary("spearman", len(scores), teacher, found, pca_dims)

    def _summary(
        self, measure: str, texts: int, teacher: float, student: float, pca_dims: int | None
    ) -> DistillationSummary:
        return DistillationSummary(self._fingerprint, pca_dims, measure, texts, rounded(teacher), rounded(student))


def _cosines(vectors: Matrix) -> NDArray[np.float64]:
    """Cosine similarity of each pair of neighbouring rows."""
    wide = vectors.astype(np.float64)
    unit = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    cosines: NDArray[np.float64] = (unit[::2] * unit[1::2]).sum(axis=1)
    return cosines
