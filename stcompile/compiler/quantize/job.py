"""What a recipe is given beside the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from stcompile.compiler.quantize.budget import Budget
from stcompile.compiler.quantize.calibration import Calibration


def _silent(_: str) -> None:
    return


@dataclass(frozen=True)
class QuantizationJob:
    """One route's graph to be quantized.

    Attributes:
        route: its name; empty where there is one graph for all.
        calibration: the texts that ranges and strengths are chosen on; None for a recipe that needs none.
        budget: the accuracy to keep; None takes the recipe's own.
        tell: told of progress within the step.
    """

    route: str
    calibration: Calibration | None = None
    budget: Budget | None = None
    tell: Callable[[str], None] = field(default=_silent)
