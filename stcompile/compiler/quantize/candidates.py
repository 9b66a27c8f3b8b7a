"""Candidates: the ways a layer may be computed, as plain data, and the table of what each recipe tries.

Nothing is computed here: `choose.py` measures what a candidate costs, `plan.py` makes what a graph needs of the chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from stcompile.compiler.quantize.observers import OBSERVERS
from stcompile.compiler.quantize.schemes import PerToken, StaticRange

# Names of the schemes, as the report records them.
STATIC, PER_TOKEN, PER_BATCH, WEIGHTS, FLOAT32 = "static", "per-token", "per-batch", "weights", "float32"

# SmoothQuant's strengths (Xiao et al. 2023, equation 4): 0 would move no difficulty from activations to weights.
STRENGTHS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

# Zero points of per-token activations: the middle first, then ever more levels above zero.
ZERO_POINTS = (128, 64, 32, 16, 8, 0)

# What an activation function never goes below: each token's smallest value need not be searched for.
NEVER_BELOW: Mapping[str, float] = MappingProxyType({"Gelu": 0.17, "Relu": 0.0})

# A smoothing costs a pass over the activation: it must take at least a twentieth of the error away.
_WORTH_SMOOTHING = 0.95

# A range that cuts values must be clearly better on the calibration texts: others may hold larger ones.
_WORTH_CUTTING = 0.9

# The search for a token's smallest value is a pass over the activation: without it, a scheme may be so much worse.
_WORTH_SEARCHING = 1.05

# Inputs that share a scale where weights alone are quantized for ONNX Runtime.
BLOCK = 32


@dataclass(frozen=True)
class Candidate:
    """One way to compute a layer. Two are equal where they compute the same, whatever is known of them.

    Attributes:
        scheme: `static`, `per-token`, `per-batch`, `weights` or `float32`.
        bits: of the weights.
        block: inputs that share a scale of a weight; 0 where a whole column does.
        pair_safe: whether the weights keep within what every CPU multiplies exactly, see `quantize_columns`.
        strength: SmoothQuant's; None without smoothing.
        observer: of `static`: what chooses the range.
        levels: of the activations; None for `weights` and `float32`, and for `static` until the range is known.
        error: relative error of the output on the calibration rows; None where it was not measured.
        sensitivity: what it alone costs the sentence embedding; None where it was not measured.
        reason: why it is taken although there is a cheaper one; empty where there is none.
    """

    scheme: str
    bits: int = 8
    block: int = 0
    pair_safe: bool = True
    strength: float | None = None
    observer: str = ""
    levels: StaticRange | PerToken | None = None
    error: float | None = field(default=None, compare=False)
    sensitivity: float | None = field(default=None, compare=False)
    reason: str = field(default="", compare=False)


@dataclass(frozen=True)
class Variation:
    """What is tried in place of the best candidate so far.

    Attributes:
        changes: a field of the candidate and its value, one trial each.
        worth: the best of the trials is taken if its error is below this share of the error so far.
    """

    changes: tuple[tuple[str, Any], ...]
    worth: float = 1.0


@dataclass(frozen=True)
class Search:
    """A row of a recipe's table: the candidate that is measured first, and what is varied in the best, one by one."""

    first: Candidate
    variations: tuple[Variation, ...] = ()


# A recipe's searches, one for each option of a layer, the cheapest first.
Table = tuple[Search, ...]


def _each(name: str, values: Iterable[Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((name, value) for value in values)


_MIDDLE, *_ABOVE = (PerToken(zero_point) for zero_point in ZERO_POINTS)
_BOUNDED = [PerToken(zero_point, bound) for bound in NEVER_BELOW.values() for zero_point in ZERO_POINTS]
_WHOLE_RANGE, *_CUTTING = OBSERVERS
_SMOOTHING = Variation(_each("strength", STRENGTHS), _WORTH_SMOOTHING)

INT8: Table = (
    Search(
        Candidate(STATIC, observer=_WHOLE_RANGE),
        (_SMOOTHING, *(Variation(_each("observer", [observer]), _WORTH_CUTTING) for observer in _CUTTING)),
    ),
    Search(
        Candidate(PER_TOKEN, levels=_MIDDLE),
        (Variation(_each("levels", _ABOVE)), _SMOOTHING, Variation(_each("levels", _BOUNDED), _WORTH_SEARCHING)),
    ),
)

# For a kernel that scales each token and smooths at no cost.
INT8_OPERATORS: Table = (
    Search(
        Candidate(PER_TOKEN, levels=_MIDDLE),
        (
            Variation(
                _each("strength", STRENGTHS)
                + _each("levels", (levels for levels in _BOUNDED if levels.zero_point != _MIDDLE.zero_point))
            ),
        ),
    ),
)

# Unsmoothed: there is no activation to make easier. Nor is there a multiplication in 8 bits that could saturate.
WEIGHTS_8_COLUMNS: Table = (Search(Candidate(WEIGHTS, pair_safe=False)),)

# Smoothed as serves the weights best (AWQ, Lin et al. 2024).
WEIGHTS_8: Table = (Search(Candidate(WEIGHTS, 8, BLOCK), (_SMOOTHING,)),)
WEIGHTS_4: Table = (Search(Candidate(WEIGHTS, 4, BLOCK), (_SMOOTHING,)), *WEIGHTS_8)
