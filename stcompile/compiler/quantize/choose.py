"""Chooses each layer's scheme, smoothing and range by the error it makes on calibration rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from stcompile.compiler.quantize.layers import Layer
from stcompile.compiler.quantize.observers import OBSERVERS
from stcompile.compiler.quantize.plan import FLOAT32, PER_TOKEN, STATIC, WEIGHTS, LayerPlan
from stcompile.compiler.quantize.recording import Recording
from stcompile.compiler.quantize.rounded import RoundedWeights
from stcompile.compiler.quantize.schemes import (
    PerToken,
    StaticRange,
    relative_error,
    restored_blocks,
    restored_columns,
    squared_lengths,
)

Array = NDArray[np.float32]
Restore = Callable[[Array], Array]

# SmoothQuant's strengths (Xiao et al. 2023, equation 4): 0 would move no difficulty from activations to weights.
STRENGTHS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

# Zero points of per-token activations: the middle first, then ever more levels above zero.
ZERO_POINTS = (128, 64, 32, 16, 8, 0)

# A smoothing costs a pass over the activation: it must take at least a twentieth of the error away.
_WORTH_SMOOTHING = 0.95

# A range that cuts values must be clearly better on the calibration texts: others may hold larger ones.
_WORTH_CUTTING = 0.9

# A static layer saves the search for each token's largest value and two passes over the output. Where it costs more
# accuracy than this factor, a token's own scale is worth its time.
_STATIC_UP_TO = 1.5

# What an activation function never goes below: each token's smallest value need not be searched for.
_NEVER_BELOW = MappingProxyType({"Gelu": 0.17, "Relu": 0.0})

# The search is a pass over the activation: without it, a scheme may be so much worse.
_WORTH_SEARCHING = 1.05

# Rows that schemes are compared on.
_TRIAL_ROWS = 1024

# Outliers: an error above this is no rounding any more, whatever the scheme. Measured: 0.06 at most over the layers of
# all-MiniLM-L6-v2 in 8 bits.
_OUTLIER_ERROR = 0.2


def int8_options(layer: Layer, seen: Recording) -> tuple[LayerPlan, ...]:
    """8 bits for one layer: static where that is nearly as accurate as a scale for each token.

    Args:
        layer: the layer.
        seen: what it read on the calibration texts.

    Returns:
        what it may be, the cheapest first, float32 last; float32 alone where every scheme makes an outlier's error.
    """
    trial = _Trial(layer, seen)
    static, per_token = _best_static(trial), _best_per_token(trial)
    exact = LayerPlan(layer, FLOAT32, error=0.0)
    if min(known(static), known(per_token)) > _OUTLIER_ERROR:
        why = f"outliers: a relative error of {known(per_token):.2f} in 8 bits"
        return (dataclasses.replace(exact, reason=why),)
    if known(static) <= _STATIC_UP_TO * known(per_token):
        return (static, per_token, exact) if known(per_token) < known(static) else (static, exact)
    why = f"a static range makes a relative error of {known(static):.3f}"
    return dataclasses.replace(per_token, reason=why), exact


def fused_options(layer: Layer, seen: Recording) -> tuple[LayerPlan, ...]:
    """8 bits for one layer of a kernel that scales each token and smooths at no cost, on CPUs that never saturate.

    Returns:
        8 bits and float32; float32 alone where they make an outlier's error.
    """
    trial = _Trial(layer, seen)
    schemes = [PerToken(ZERO_POINTS[0])]
    if trial.never_below is not None:
        schemes += [PerToken(zero_point, trial.never_below) for zero_point in ZERO_POINTS[1:]]
    errors = {
        (scheme, strength): trial.error(strength, scheme.restored, trial.columns(strength, pair_safe=False))
        for scheme in schemes
        # What a value never goes below is known of unsmoothed ones alone.
        for strength in (trial.strengths if scheme.never_below is None else (None,))
    }
    scheme, strength = best = min(errors, key=lambda choice: errors[choice])
    exact = LayerPlan(layer, FLOAT32, error=0.0)
    if errors[best] > _OUTLIER_ERROR:
        why = f"outliers: a relative error of {errors[best]:.2f} in 8 bits"
        return (dataclasses.replace(exact, reason=why),)
    plan = LayerPlan(
        layer,
        PER_TOKEN,
        smoothing=trial.smoothing(strength),
        strength=strength,
        per_token=scheme,
        weights=trial.rounded(strength, scheme.restored, pair_safe=False),
        error=errors[best],
    )
    return plan, exact


def column_options(layer: Layer, seen: Recording) -> tuple[LayerPlan, ...]:
    """Weights in 8 bits per output column, activations as they are; then float32."""
    trial = _Trial(layer, seen)
    # Unsmoothed: there is no activation to make easier. Nor is there a multiplication in 8 bits that could saturate.
    error = trial.error(None, _unchanged, trial.columns(None, pair_safe=False))
    weights = trial.rounded(None, _unchanged, pair_safe=False)
    return LayerPlan(layer, WEIGHTS, weights=weights, error=error), LayerPlan(layer, FLOAT32, error=0.0)


def block_options(layer: Layer, seen: Recording, bits: Sequence[int], block: int) -> tuple[LayerPlan, ...]:
    """Weights in blocks, activations as they are, smoothed as serves the weights best (AWQ, Lin et al. 2024).

    Args:
        layer: the layer.
        seen: what it read on the calibration texts.
        bits: of the options, fewest first.
        block: inputs that share a scale.

    Returns:
        an option for each number of bits, then float32.
    """
    trial = _Trial(layer, seen)
    return (*(_best_blocks(trial, width, block) for width in bits), LayerPlan(layer, FLOAT32, error=0.0))


def known(plan: LayerPlan) -> float:
    """A plan's error, where it was measured."""
    assert plan.error is not None
    return plan.error


def _best_blocks(trial: _Trial, bits: int, block: int) -> LayerPlan:
    def error(strength: float | None) -> float:
        return trial.error(strength, _unchanged, restored_blocks(trial.weight(strength), bits, block))

    errors = {strength: error(strength) for strength in trial.strengths}
    strength = _smallest(errors)
    return LayerPlan(
        trial.layer,
        WEIGHTS,
        bits,
        trial.smoothing(strength),
        strength,
        weights=trial.rounded(strength, _unchanged, bits=bits, block=block),
        error=errors[strength],
    )


def _best_static(trial: _Trial) -> LayerPlan:
    def with_range(strength: float | None, observer: str) -> tuple[StaticRange, float]:
        levels = StaticRange.covering(*trial.range(strength, observer))
        return levels, trial.error(strength, levels.restored, trial.columns(strength))

    first, *others = OBSERVERS
    whole = {strength: with_range(strength, first) for strength in trial.strengths}
    strength = _smallest({strength: error for strength, (_, error) in whole.items()})
    chosen, (levels, error) = first, whole[strength]
    for observer in others:
        other, other_error = with_range(strength, observer)
        if other_error < _WORTH_CUTTING * error:
            chosen, levels, error = observer, other, other_error
    return LayerPlan(
        trial.layer,
        STATIC,
        smoothing=trial.smoothing(strength),
        strength=strength,
        static=levels,
        observer=chosen,
        weights=trial.rounded(strength, levels.restored),
        error=error,
    )


def _best_per_token(trial: _Trial) -> LayerPlan:
    def error(strength: float | None, scheme: PerToken) -> float:
        return trial.error(strength, scheme.restored, trial.columns(strength))

    plain = {zero_point: error(None, PerToken(zero_point)) for zero_point in ZERO_POINTS}
    best_point = min(plain, key=lambda point: plain[point])
    scheme = PerToken(best_point)
    errors = {
        strength: plain[best_point] if strength is None else error(strength, scheme) for strength in trial.strengths
    }
    strength = _smallest(errors)
    found = errors[strength]
    if strength is None and trial.never_below is not None:
        bounded = [PerToken(zero_point, trial.never_below) for zero_point in ZERO_POINTS]
        unsearched = {choice: error(None, choice) for choice in bounded}
        best = min(bounded, key=lambda choice: unsearched[choice])
        if unsearched[best] < _WORTH_SEARCHING * found:
            scheme, found = best, unsearched[best]
    return LayerPlan(
        trial.layer,
        PER_TOKEN,
        smoothing=trial.smoothing(strength),
        strength=strength,
        per_token=scheme,
        weights=trial.rounded(strength, scheme.restored),
        error=found,
    )


def _smallest(errors: dict[float | None, float]) -> float | None:
    """The strength of the smallest error; None unless smoothing is worth its pass."""
    best = min(errors, key=lambda strength: errors[strength])
    return best if errors[best] < _WORTH_SMOOTHING * errors[None] else None


def _unchanged(rows: Array) -> Array:
    return rows


class _Trial:
    """One layer with its calibration rows: what a scheme would make of its output."""

    def __init__(self, layer: Layer, seen: Recording) -> None:
        self.layer = layer
        self._seen = seen
        self._weight = np.ascontiguousarray(np.concatenate(layer.weights, axis=1))
        rows = seen.rows
        self._rows = rows[:: max(1, len(rows) // _TRIAL_ROWS)].copy()
        self._exact = self._rows @ self._weight
        self._length = squared_lengths(self._exact)
        self._columns: dict[tuple[float | None, bool], Array] = {}
        self._smoothing: dict[float, Array] = {}

    @property
    def strengths(self) -> Sequence[float | None]:
        """What smoothing may be tried: none where another layer needs the same weight."""
        return (None,) if self.layer.shares_weights else (None, *STRENGTHS)

    @property
    def never_below(self) -> float | None:
        """What the layer's input never goes below, from what makes it; None where that is not known."""
        producer = self.layer.data.producer()
        return None if producer is None else _NEVER_BELOW.get(producer.op_type)

    def smoothing(self, strength: float | None) -> Array | None:
        """Divisor of each input channel, `(in,)`, of geometric mean 1; None for no strength."""
        if strength is None:
            return None
        if strength not in self._smoothing:
            activation = np.maximum(np.maximum(np.abs(self._seen.low), np.abs(self._seen.high)), 1e-5)
            weight = np.maximum(np.abs(self._weight).max(axis=1), 1e-5)
            logs = strength * np.log(activation) - (1 - strength) * np.log(weight)
            self._smoothing[strength] = np.exp(logs - logs.mean()).astype(np.float32)
        return self._smoothing[strength]

    def weight(self, strength: float | None) -> Array:
        """The layer's weights side by side, smoothed, `(in, out)`."""
        divisor = self.smoothing(strength)
        return self._weight if divisor is None else self._weight * divisor[:, None]

    def columns(self, strength: float | None, *, pair_safe: bool = True) -> Array:
        """What they become in 8 bits per output column, rounded to the nearest."""
        key = strength, pair_safe
        if key not in self._columns:
            self._columns[key] = restored_columns(self.weight(strength), pair_safe=pair_safe)
        return self._columns[key]

    def range(self, strength: float | None, observer: str) -> tuple[float, float]:
        """What an observer would have the levels cover, after smoothing."""
        divisor = self.smoothing(strength)
        rows, low, high = (_divided(part, divisor) for part in (self._rows, self._seen.low, self._seen.high))
        return OBSERVERS[observer](rows, float(low.min()), float(high.max()))

    def error(self, strength: float | None, activation: Restore, weight: Array) -> float:
        """Relative error of the output with these activations and these weights, both smoothed."""
        rows = activation(_divided(self._rows, self.smoothing(strength)))
        return relative_error(self._exact, rows @ weight, self._length)

    def rounded(
        self, strength: float | None, activation: Restore, *, pair_safe: bool = True, bits: int = 8, block: int = 0
    ) -> RoundedWeights:
        """The layer's weights for a plan, their rounding compensated on all recorded rows."""
        # The rows are read again when they are needed: a plan outlives its layer's turn, and holds none.
        seen, divisor = self._seen, self.smoothing(strength)

        def rows() -> Array:
            return activation(_divided(seen.rows, divisor))

        # What several layers share must be rounded alike for all of them.
        compensated = None if self.layer.shares_weights else rows
        return RoundedWeights(tuple(self.layer.weights), compensated, divisor, pair_safe, bits, block)


def _divided(part: Array, divisor: Array | None) -> Array:
    return part if divisor is None else part / divisor
