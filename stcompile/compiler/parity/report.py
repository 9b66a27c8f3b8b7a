"""The verdict of a parity check: numbers, reasons, and how they are shown."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from stcompile.artifact.manifest import ParitySummary
from stcompile.artifact.target import Tolerance


@dataclass(frozen=True)
class ParityReport:
    """How a compiled artifact compares with sentence-transformers.

    Attributes:
        target: the artifact's target.
        reference: what it was compared with: `sentence-transformers` and its release, or our own modules and why.
        num_texts: texts compared, counting a text once per prompt it ran with.
        max_abs_error: largest absolute difference of a component, on rows scaled to the reference row's length; of
            texts that are compared because the model takes more than 2048 tokens, for each 512 of theirs.
        min_cosine: smallest cosine similarity between a text's two vectors.
        mean_cosine: mean of those.
        neighbour_overlap: share of the ten nearest texts that both agree on.
        batch_invariance: smallest cosine between a text's vector alone and in a mixed batch, compiled.
        reference_batch_invariance: the same for the reference; below 1 the model itself depends on padding.
        worst_text: the text with the largest error.
        tolerance: what was allowed.
        misread: whether our own modules, which were traced, already give other vectors than the reference: a bug of
            stcompile, whatever the target.
        failures: what was not within tolerance, one sentence each; empty when it passed.
        texts_sha256: hash of the texts, so that two reports can be compared.
    """

    target: str
    num_texts: int
    max_abs_error: float
    min_cosine: float
    mean_cosine: float
    neighbour_overlap: float
    batch_invariance: float
    reference_batch_invariance: float
    worst_text: str
    tolerance: Tolerance
    failures: tuple[str, ...]
    texts_sha256: str
    reference: str
    misread: bool = False

    @property
    def passed(self) -> bool:
        return not self.failures

    def summary(self) -> ParitySummary:
        """The part the manifest carries."""
        names = [field.name for field in dataclasses.fields(ParitySummary)]
        return ParitySummary(**{name: getattr(self, name) for name in names})

    def to_dict(self) -> dict[str, Any]:
        """As JSON carries it."""
        return {**dataclasses.asdict(self), "passed": self.passed}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def shortened(text: str, width: int = 48) -> str:
    """A text on one line, for a table."""
    shown = repr(text)[1:-1]
    return "(empty text)" if not text else shown if len(shown) <= width else f"{shown[: width - 1]}…"
