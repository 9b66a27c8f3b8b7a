"""Schemes: what activations become in 8 bits, in numpy, and how far a layer's output is then from what it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# A scale is never zero: a row of zeros, or a tensor that never held anything else, stays one.
SMALLEST_SCALE = 1e-12

TOP_LEVEL = 255

_BLOCK = 64


@dataclass(frozen=True)
class StaticRange:
    """One scale and zero point for a whole activation: uint8, `value = scale * (level - zero_point)`."""

    scale: float
    zero_point: int

    @classmethod
    def covering(cls, low: float, high: float) -> StaticRange:
        """The levels of a range, which always holds zero."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = float(np.float32(max((high - low) / TOP_LEVEL, SMALLEST_SCALE)))
        return cls(scale, int(np.clip(np.rint(-low / scale), 0, TOP_LEVEL)))

    def restored(self, rows: Array) -> Array:
        """What the rows become, float32."""
        levels = np.clip(np.rint(rows / np.float32(self.scale)) + self.zero_point, 0, TOP_LEVEL)
        found: Array = ((levels - self.zero_point) * self.scale).astype(np.float32)
        return found


@dataclass(frozen=True)
class PerToken:
    """A scale for each token, as large as its own values need, and one zero point for all: uint8.

    A zero point of 128 serves values on both sides of zero alike; a smaller one leaves more levels above zero, for what
    comes out of a GELU.

    Attributes:
        zero_point: of every token.
        never_below: what the values never go below, as `-never_below`, so that no pass over a row is needed to find its
            smallest one; None where that is not known.
    """

    zero_point: int
    never_below: float | None = None

    @property
    def smallest_scale(self) -> float:
        """What every scale is at least: it must hold what the values may go down to."""
        if not self.zero_point or self.never_below is None:
            return SMALLEST_SCALE
        return max(SMALLEST_SCALE, self.never_below / self.zero_point)

    def scales(self, rows: Array) -> Array:
        """`(n, 1)`: smallest that leaves a row's largest and smallest value within the levels."""
        above = rows.max(axis=1, keepdims=True) / np.float32(TOP_LEVEL - self.zero_point)
        if self.zero_point and self.never_below is None:
            above = np.maximum(above, -rows.min(axis=1, keepdims=True) / np.float32(self.zero_point))
        found: Array = np.maximum(above, np.float32(self.smallest_scale))
        return found

    def restored(self, rows: Array) -> Array:
        """What the rows become, float32."""
        scales = self.scales(rows)
        levels = np.clip(np.rint(rows / scales) + self.zero_point, 0, TOP_LEVEL)
        found: Array = ((levels - self.zero_point) * scales).astype(np.float32)
        return found


def smoothing_of(strength: float | None, activations: Array, weights: Array) -> Array | None:
    """SmoothQuant's divisor of each input channel, `(in,)`, of geometric mean 1; None for no strength.

    Args:
        strength: how much of the difficulty moves to the weights, 0 to 1.
        activations: the largest magnitude that each channel held, `(in,)`.
        weights: the largest magnitude of the weights that each channel is multiplied with, `(in,)`.
    """
    if strength is None:
        return None
    activations, weights = np.maximum(activations, 1e-5), np.maximum(weights, 1e-5)
    logs = strength * np.log(activations) - (1 - strength) * np.log(weights)
    found: Array = np.exp(logs - logs.mean()).astype(np.float32)
    return found


def divided(rows: Array, smoothing: Array | None) -> Array:
    """Rows, smoothed."""
    return rows if smoothing is None else rows / smoothing


def relative_error(exact: Array, found: Array, length: NDArray[np.float64] | None = None) -> float:
    """Root mean square, over rows, of the error's length as a share of the row's length.

    Args:
        exact: the layer's output in float32, `(n, out)`.
        found: the same of a scheme.
        length: `squared_lengths(exact)`, where many schemes are compared with one output.
    """
    length = squared_lengths(exact) if length is None else length
    some = length > 0
    if not some.any():
        return 0.0
    wrong = np.concatenate([squared_lengths(found[part] - exact[part]) for part in _blocks_of(exact)])
    return float(np.sqrt((wrong[some] / length[some]).mean()))


def squared_lengths(rows: Array) -> NDArray[np.float64]:
    """Of each row, `(n,)`."""
    return np.concatenate([np.square(rows[part], dtype=np.float64).sum(axis=1) for part in _blocks_of(rows)])


def _blocks_of(rows: Array) -> Iterator[slice]:
    """Some rows at a time: in float64 all of them would be the largest thing in memory."""
    return (slice(start, start + _BLOCK) for start in range(0, max(1, len(rows)), _BLOCK))
