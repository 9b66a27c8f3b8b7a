"""What distillation costs: the distilled model beside the model it imitates."""

from __future__ import annotations

from collections.abc import Sequence

from stcompile.artifact.report import DistillationSummary
from stcompile.compiler.metrics import neighbour_overlap, pair_correlation, rounded
from stcompile.compiler.parity.probes import probe_texts
from stcompile.compiler.scored_pairs import ScoredPair, checked_pairs
from stcompile.compiler.stack.module_stack import ModuleStack


class Quality:
    """Measures a model before it is distilled, and what it was distilled into after.

    Without scored pairs, on the project's probe texts: how far the two models agree on each text's nearest.

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
            measure, count = "neighbour_overlap", len(self._texts)
            before, after = 1.0, neighbour_overlap(self._teacher, vectors)
        else:
            measure, count, scores = "spearman", len(self._pairs), [pair[2] for pair in self._pairs]
            before, after = (pair_correlation(matrix, scores) for matrix in (self._teacher, vectors))
        return DistillationSummary(self._fingerprint, pca_dims, measure, count, rounded(before), rounded(after))
