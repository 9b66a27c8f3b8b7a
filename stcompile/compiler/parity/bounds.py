"""What parity measured beside what is allowed, a sentence for each number that is not within it."""

from __future__ import annotations

from collections.abc import Sequence

from stcompile.artifact.manifest import NO_PADDING
from stcompile.artifact.report import ParityReport, PathReport
from stcompile.artifact.target import Tolerance
from stcompile.compiler.parity.probes import shortened

Real = float | None

# Below this cosine between a text alone and in a batch, torch itself depends on padding: convolutions without a mask,
# left-padded absolute positions.
REFERENCE_INVARIANT = 0.99999


def too_small(what: str, found: Real, least: Real, where: str = "") -> tuple[str, ...]:
    """Nothing where `found` is at least `least`, or where one of them is None: not measured, or not judged."""
    if found is None or least is None or found >= least:
        return ()
    return (f"{what} {found:.7f} is below {least:.7g}{where}",)


def too_large(what: str, found: float, most: Real, where: str = "") -> tuple[str, ...]:
    """Nothing where `found` is at most `most`, or where that is None."""
    if most is None or found <= most:
        return ()
    return (f"{what} {found:.2e} is above {most:.1e}{where}",)


def too_few_alike(found: Real, least: Real, where: str = "") -> tuple[str, ...]:
    """The share of a sparse vector's numbers that are not zero in both, as `too_small`."""
    if least is None or (found or 0) >= least:
        return ()
    return (f"of the numbers that are not zero {found or 0:.4f} are the same, less than {least:g}{where}",)


def failures_of_vectors(report: ParityReport) -> tuple[str, ...]:
    """How far vectors are from those that they are compared with."""
    allowed, where = report.tolerance, f" ({shortened(report.worst_text)!r})"
    return (
        *too_large("max abs error", report.max_abs_error, allowed.max_abs_error, where),
        *too_small("min cosine", report.min_cosine, allowed.min_cosine, where),
        *too_small("mean cosine", report.mean_cosine, allowed.mean_cosine),
        *too_few_alike(report.active_overlap, allowed.active_overlap),
        *too_small("top-10 neighbour overlap", report.neighbour_overlap, allowed.neighbour_overlap),
    )


def failures_of_invariance(report: ParityReport, padding: str) -> tuple[str, ...]:
    """Whether a text's result stays its own in every batch; not judged where the reference's own does not."""
    allowed, never_pads = report.tolerance.batch_invariance, padding == NO_PADDING
    if allowed is None or not (never_pads or report.reference_batch_invariance >= REFERENCE_INVARIANT):
        return ()
    # As far from 1 as the reference itself is, and the tolerance on top.
    itself = 1.0 if never_pads else report.reference_batch_invariance
    return too_small("batch invariance", report.batch_invariance, itself - (1 - allowed))


def failures_of_paths(
    paths: Sequence[PathReport], allowed: Tolerance, agreement: float, *, error: str = "max abs error"
) -> tuple[str, ...]:
    """What the standard operators make in the kernels' place.

    Args:
        paths: kernels, and behind them what takes their place.
        allowed: of both.
        agreement: the smallest cosine between them where the caller accepts none of his own.
        error: what the largest difference is called.
    """
    return tuple(
        sentence
        for path in paths[1:]
        for sentence in (
            *too_large(f"without kernels {error}", path.max_abs_error, allowed.max_abs_error),
            *too_small("without kernels min cosine", path.min_cosine, allowed.min_cosine),
            *too_small(
                "cosine between kernels and standard operators", path.agreement, allowed.least_agreement(agreement)
            ),
        )
    )
