"""Scores as what they are for: to rank. They have no direction and no scale of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stcompile.compiler.metrics import NEIGHBOURS, Matrix, centred, distance


def by_query(scores: Matrix, documents: int) -> list[Matrix]:
    """Scores of queries over so many documents each, `(n, labels)`, query by query."""
    return [scores[start : start + documents] for start in range(0, len(scores), documents)]


def cosine_about_mean(one: Matrix, other: Matrix) -> float:
    """The cosine of two sets of scores, each about the mean of its label."""
    return float(distance(centred(one), centred(other)).cosine[0])


def spread_of(logits: Matrix) -> float:
    """Standard deviation of a label's logits over all pairs; where all have one score, in proportion to its size."""
    return float(max(logits.std(axis=0).max(), 1e-4 * np.abs(logits).max(), 1e-12))


def top_agreement(known: Sequence[Matrix], made: Sequence[Matrix]) -> float:
    """Mean share of each query's best documents that both agree on, by the last label."""
    shares = []
    for one, other in zip(known, made, strict=True):
        best = [set(np.argsort(-rows[:, -1], kind="stable")[:NEIGHBOURS].tolist()) for rows in (one, other)]
        shares.append(len(best[0] & best[1]) / max(1, len(best[0])))
    return float(np.mean(shares))
