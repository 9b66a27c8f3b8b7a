"""What a verdict rests on, text by text: for reports and assertions, which show where an artifact is worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact.report import ParityReport, Report
from stcompile.compiler.metrics import Matrix, is_ragged
from stcompile.compiler.parity.speed import Speed

# Texts whose similarities are shown, evenly chosen: some two thousand pairs.
_SHOWN = 64


@dataclass(frozen=True)
class Judged:
    """One text in one run.

    Attributes:
        text: as it was encoded; of a reranker both texts of a pair.
        run: how: `batched`, `long`, `prompt-0`; of several routes with the route in front.
        error: largest absolute difference of a component from the reference, as of `ParityReport`.
        cosine: cosine similarity with the reference; None of a reranker's pair, whose score has no direction.
    """

    text: str
    run: str
    error: float
    cosine: float | None


@dataclass(frozen=True)
class Scatter:
    """The same numbers by the reference and by the artifact, `(n,)` each, and what they are of."""

    what: str
    reference: NDArray[np.float64]
    compiled: NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """Every text that was judged, and what applications make of the results: similarities, or scores."""

    judged: tuple[Judged, ...] = ()
    scatters: tuple[Scatter, ...] = ()

    def worst(self, count: int) -> list[Judged]:
        """Those that are furthest from the reference, each text once."""
        ranked = sorted(self.judged, key=lambda one: (1.0 if one.cosine is None else one.cosine, -one.error))
        found: dict[str, Judged] = {}
        for one in ranked:
            found.setdefault(one.text, one)
        return [*found.values()][:count]

    @property
    def cosines(self) -> list[float]:
        """Of all texts that have one."""
        return [one.cosine for one in self.judged if one.cosine is not None]


@dataclass(frozen=True)
class Verification:
    """An artifact beside what it was compared with.

    Attributes:
        artifact: its folder's name.
        against: the model's name, or the other artifact's.
        parity: the verdict.
        evidence: what it rests on.
        compilation: what was done to make the artifact, and the verdict that let it be published.
        seconds: how long it took.
        speed: of both, where it was asked for.
    """

    artifact: str
    against: str
    parity: ParityReport
    evidence: Evidence
    compilation: Report
    seconds: float = 0.0
    speed: Speed | None = None

    @property
    def passed(self) -> bool:
        return self.parity.passed


def similarities(what: str, reference: Matrix, compiled: Matrix) -> tuple[Scatter, ...]:
    """The cosine similarity of any two of some texts, by both; nothing of texts of several vectors each."""
    if is_ragged(reference) or reference.shape != compiled.shape or len(reference) < 2:
        return ()
    chosen = np.unique(np.linspace(0, len(reference) - 1, _SHOWN).astype(np.int64))
    both = [_cosines(rows[chosen]) for rows in (reference, compiled)]
    return (Scatter(what, *both),)


def judged_of(texts: Sequence[str], run: str, errors: Sequence[float], cosines: Sequence[float | None]) -> list[Judged]:
    """One of each text of a run."""
    return [
        Judged(text, run, float(error), None if cosine is None else float(cosine))
        for text, error, cosine in zip(texts, errors, cosines, strict=True)
    ]


def _cosines(rows: Matrix) -> NDArray[np.float64]:
    found = np.nan_to_num(rows.astype(np.float64), posinf=0, neginf=0)
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    upper: NDArray[np.float64] = (found @ found.T)[np.triu_indices(len(found), 1)]
    return upper
