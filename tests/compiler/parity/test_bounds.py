"""What is measured beside what is allowed: every bound can fail, and what a caller accepts holds for all of them."""

from __future__ import annotations

import pytest

from stcompile.artifact.report import PathReport
from stcompile.artifact.target import Target
from stcompile.compiler.parity.bounds import failures_of_paths, too_few_alike, too_large, too_small
from stcompile.compiler.parity.scores import score_tolerance

NAN = float("nan")


@pytest.mark.parametrize("found", [0.98, -1.0, NAN])
def test_what_is_too_small_is_said(found: float) -> None:
    assert too_small("min cosine", found, 0.99, " (a)") == (f"min cosine {found:.7f} is below 0.99 (a)",)
    assert len(too_few_alike(found, 0.99)) == 1


@pytest.mark.parametrize("found", [2e-6, float("inf"), NAN])
def test_what_is_too_large_is_said(found: float) -> None:
    assert too_large("max abs error", found, 1e-6) == (f"max abs error {found:.2e} is above 1.0e-06",)


def test_what_is_not_judged_never_fails() -> None:
    assert (too_small("a", NAN, None), too_small("a", None, 0.5), too_large("a", NAN, None)) == ((), (), ())
    assert (too_few_alike(NAN, None), too_few_alike(None, 0.5)) == ((), too_few_alike(0.0, 0.5))


def test_who_accepts_less_accepts_it_between_kernels_and_operators_too() -> None:
    """Otherwise --min-cosine, which the error names as the remedy, would be none."""
    target = Target.parse("onnx-int8")
    paths = [PathReport(name, 9, 0.0, 0.985, 0.985) for name in ("avx2", "body")]
    (failure,) = failures_of_paths(paths, score_tolerance(target, None), 0.99)
    assert failure == "cosine between kernels and standard operators 0.9850000 is below 0.99"
    for accepting in (score_tolerance(target, 0.98), target.tolerance.accepting(0.98)):
        assert failures_of_paths(paths, accepting, 0.99) == ()
    for accepting in (score_tolerance(target, 0.986), target.tolerance.accepting(0.986)):
        assert "without kernels min cosine 0.9850000 is below 0.986" in failures_of_paths(paths, accepting, 0.99)
        assert len(failures_of_paths(paths, accepting, 0.99)) == 2
