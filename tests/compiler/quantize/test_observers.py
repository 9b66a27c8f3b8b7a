"""Observers: which range they would have an activation's levels cover."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from stcompile.compiler.quantize.observers import OBSERVERS

Array = npt.NDArray[np.float32]

NORMAL = np.random.default_rng(17).standard_normal((512, 64)).astype(np.float32)


def test_their_names_are_those_of_the_manifest() -> None:
    assert list(OBSERVERS) == ["min-max", "percentile", "entropy"]


def test_min_max_covers_what_no_sampled_row_holds() -> None:
    assert OBSERVERS["min-max"](NORMAL, -30.0, 70.0) == (-30.0, 70.0)


def test_percentile_leaves_out_the_outermost_values() -> None:
    rows = NORMAL.copy()
    rows[7, 7] = 1000
    below, above = OBSERVERS["percentile"](rows, -1000, 1000)
    assert -5 < below < -3.3
    assert 3.3 < above < 5
    inside = (rows >= below) & (rows <= above)
    assert 0.9998 < inside.mean() < 1


@pytest.mark.parametrize("factor", [1, 1e-3, 1e4])
def test_entropy_cuts_a_tail_that_carries_little(factor: float) -> None:
    """As far below zero as above, but for a bin of the histogram; the same share of values of any size."""
    rows = (np.random.default_rng(5).standard_cauchy((512, 64)).clip(-500, 500) * factor).astype(np.float32)
    below, above = OBSERVERS["entropy"](rows, float(rows.min()), float(rows.max()))
    assert below == pytest.approx(-above, abs=float(np.abs(rows).max()) / 128)
    assert above < 0.9 * np.abs(rows).max()
    assert np.mean(np.abs(rows) <= above) > 0.95


def test_entropy_keeps_what_is_used_throughout() -> None:
    rows = np.random.default_rng(6).uniform(-3, 3, (512, 64)).astype(np.float32)
    below, above = OBSERVERS["entropy"](rows, -3, 3)
    assert above > 0.95 * 3
    assert below < -0.95 * 3


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
def test_a_tensor_of_one_value_has_a_range(observer: str, value: float) -> None:
    below, above = OBSERVERS[observer](np.full((64, 8), value, np.float32), value, value)
    assert np.isfinite([below, above]).all()
    assert min(below, 0) <= value <= max(above, 0) or observer == "entropy"
