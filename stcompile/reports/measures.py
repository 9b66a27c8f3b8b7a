"""What was measured beside what was allowed, one after the other, as every report shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stcompile.artifact.report import ParityReport
from stcompile.artifact.target import Tolerance


@dataclass(frozen=True)
class Measure:
    """One number of a verdict.

    Attributes:
        name: what it is of.
        value: the number.
        bound: what was allowed; None where it is shown and not judged.
        is_error: whether less is better.
    """

    name: str
    value: float
    bound: float | None
    is_error: bool = False

    @property
    def passed(self) -> bool:
        if self.bound is None:
            return True
        return self.value <= self.bound if self.is_error else self.value >= self.bound

    @property
    def shown(self) -> str:
        return f"{self.value:.2e}" if self.is_error else f"{self.value:.6f}"

    @property
    def allowed(self) -> str:
        return "" if self.bound is None else f"{'<=' if self.is_error else '>='} {self.bound:g}"


def measures(report: ParityReport) -> list[Measure]:
    """All of a verdict, the texts' first."""
    return [*_of_texts(report), *_of_paths(report), *_of_outputs(report), *_of_images(report)]


def _of_texts(report: ParityReport) -> Iterator[Measure]:
    allowed = report.tolerance
    yield Measure("max abs error", report.max_abs_error, allowed.max_abs_error, is_error=True)
    yield Measure("min cosine", report.min_cosine, allowed.min_cosine)
    yield Measure("mean cosine", report.mean_cosine, allowed.mean_cosine)
    yield Measure("top-10 neighbour overlap", report.neighbour_overlap, allowed.neighbour_overlap)
    if report.active_overlap is not None:
        yield Measure("active in both, of all active", report.active_overlap, allowed.active_overlap)
    # What is allowed is relative to the reference's own, which stands below.
    yield Measure("batch invariance", report.batch_invariance, _invariance(report, allowed))
    yield Measure("batch invariance of the reference", report.reference_batch_invariance, None)


def _invariance(report: ParityReport, allowed: Tolerance) -> float | None:
    failed = any(failure.startswith("batch invariance ") for failure in report.failures)
    judged = failed or (allowed.batch_invariance is not None and report.batch_invariance >= allowed.batch_invariance)
    return allowed.batch_invariance if judged else None


def _of_paths(report: ParityReport) -> Iterator[Measure]:
    for path in report.paths:
        yield Measure(f"layers by {path.path}, min cosine", path.min_cosine, report.tolerance.min_cosine)


def _of_outputs(report: ParityReport) -> Iterator[Measure]:
    for item in report.outputs:
        allowed = item.tolerance
        yield Measure(f"{item.output}, max abs error", item.max_abs_error, allowed.max_abs_error, is_error=True)
        yield Measure(f"{item.output}, min cosine", item.min_cosine, allowed.min_cosine)
        yield Measure(f"{item.output}, mean cosine", item.mean_cosine, allowed.mean_cosine)
        yield Measure(f"{item.output}, batch invariance", item.batch_invariance, allowed.batch_invariance)


def _of_images(report: ParityReport) -> Iterator[Measure]:
    images, allowed = report.images, report.tolerance
    if images is None:
        return
    yield Measure("images, max abs error", images.max_abs_error, allowed.max_abs_error, is_error=True)
    yield Measure("images, min cosine", images.min_cosine, allowed.min_cosine)
    yield Measure("images, mean cosine", images.mean_cosine, allowed.mean_cosine)
    yield Measure("images, batch invariance", images.batch_invariance, allowed.batch_invariance)
