"""Schemes in numpy: what rows and weights become, and how far a layer's output is from what it was."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from stcompile.compiler.quantize.schemes import (
    PerToken,
    StaticRange,
    relative_error,
)
from stcompile.compiler.quantize.weights import quantize_blocks, quantize_columns
from tests.compiler.quantize.graphs import WEIGHT

Array = npt.NDArray[np.float32]

# Rounding to the nearest level, with room for float32's own.
HALF_A_LEVEL = 0.5001


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero_point"),
    [
        (-1.28, 1.27, 0.01, 128),
        (0.0, 2.55, 0.01, 0),
        (-2.55, 0.0, 0.01, 255),
        # Zero is always one of the levels
        (1.0, 2.55, 0.01, 0),
        (-2.55, -1.0, 0.01, 255),
        (-0.1, 2.45, 0.01, 10),
        # A tensor that never held anything else than zero
        (0.0, 0.0, 1e-12, 0),
    ],
)
def test_a_static_range_covers_what_it_is_told(low: float, high: float, scale: float, zero_point: int) -> None:
    levels = StaticRange.covering(low, high)
    assert levels.scale == pytest.approx(scale, rel=1e-6)
    assert levels.scale == float(np.float32(levels.scale)), "what a graph can hold"
    assert levels.zero_point == zero_point
    ends = np.array([[low, high, 0]], np.float32)
    assert np.abs(levels.restored(ends) - ends).max() <= HALF_A_LEVEL * levels.scale
    assert levels.restored(ends)[0, 2] == 0


def test_a_static_range_cuts_what_is_outside() -> None:
    levels = StaticRange.covering(-1.28, 1.27)
    found = levels.restored(np.array([[-5, -0.3, 0, 0.3, 5]], np.float32))
    assert found.dtype == np.float32
    assert found[0, 0] == pytest.approx(-1.28)
    assert found[0, 4] == pytest.approx(1.27)
    assert np.abs(found[0, 1:4] - [-0.3, 0, 0.3]).max() <= HALF_A_LEVEL * levels.scale


def test_halves_are_rounded_to_the_even_level() -> None:
    """As QuantizeLinear rounds."""
    found = StaticRange(1.0, 100).restored(np.array([[0.5, 1.5, 2.5, -0.5, -1.5]], np.float32))
    assert found.tolist() == [[0, 2, 2, 0, -2]]


@pytest.mark.parametrize("zero_point", [128, 64, 16, 8, 0])
def test_each_token_has_the_smallest_scale_that_holds_it(zero_point: int) -> None:
    rng = np.random.default_rng(zero_point)
    rows = (rng.standard_normal((50, 9)) * 10.0 ** rng.integers(-20, 20, (50, 1))).astype(np.float32)
    rows = rows if zero_point else np.abs(rows)
    scales = PerToken(zero_point).scales(rows)
    assert scales.shape == (50, 1)
    for row, scale in zip(rows.astype(np.float64), scales[:, 0], strict=True):
        needed = max(row.max(), 0) / (255 - zero_point)
        if zero_point:
            needed = max(needed, -row.min() / zero_point)
        assert scale == pytest.approx(max(needed, 1e-12), rel=1e-6)
    restored = PerToken(zero_point).restored(rows)
    assert restored.dtype == np.float32
    assert (np.abs(restored - rows.astype(np.float64)) <= HALF_A_LEVEL * scales).all()


@pytest.mark.parametrize("zero_point", [128, 16, 0])
def test_a_token_is_nobody_elses_business(zero_point: int) -> None:
    rows = np.abs(np.random.default_rng(0).standard_normal((3, 8))).astype(np.float32)
    alone = PerToken(zero_point).restored(rows)
    rows[1] *= np.float32(1e6)
    together = PerToken(zero_point).restored(rows)
    assert np.array_equal(together[[0, 2]], alone[[0, 2]])
    assert not np.array_equal(together[1], alone[1])


def test_a_token_of_zeros_stays_one() -> None:
    rows = np.zeros((2, 4), np.float32)
    rows[1, 2] = 3
    restored = PerToken(128).restored(rows)
    assert not restored[0].any()
    assert restored[1].tolist() == [0, 0, pytest.approx(3), 0]


def test_a_smaller_zero_point_serves_what_comes_out_of_a_gelu() -> None:
    x = np.random.default_rng(1).standard_normal((64, 32)).astype(np.float32)
    rows = (x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))).astype(np.float32)

    def error(zero_point: int) -> float:
        return float(np.abs(PerToken(zero_point).restored(rows) - rows).mean())

    assert error(16) < 0.65 * error(128)


def test_columns_and_blocks_are_what_their_levels_say() -> None:
    levels, scale = quantize_columns(WEIGHT)
    np.testing.assert_allclose(quantize_columns(WEIGHT).restored(), levels.astype(np.float64) * scale, rtol=1e-6)
    for bits, worst in ((8, 0.005), (4, 0.08)):
        found = quantize_blocks(WEIGHT, bits, 4).restored()
        assert found.shape == WEIGHT.shape
        assert np.abs(found - WEIGHT).max() <= worst * np.abs(WEIGHT).max()


def test_the_error_is_the_share_of_each_row_that_is_lost() -> None:
    exact = np.array([[3, 4], [0, 0], [30, 40]], np.float32)
    # A tenth of the first row, nothing of one that is nothing, three tenths of the last
    found = np.array([[3, 4.5], [0, 7], [45, 40]], np.float32)
    assert relative_error(exact, found) == pytest.approx(math.sqrt((0.1**2 + 0.3**2) / 2))
    assert relative_error(exact, exact) == 0
    assert relative_error(np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32)) == 0


def test_rows_of_any_size_have_an_error() -> None:
    """Squares of these leave float32."""
    exact = np.array([[1e25, 1e25], [1e-25, 1e-25]], np.float32)
    assert relative_error(exact, exact * np.float32(1.5)) == pytest.approx(0.5)
