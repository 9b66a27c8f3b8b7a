"""What a recipe is given beside the graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stcompile.artifact.report import PassSummary
from stcompile.compiler.quantize.budget import Budget
from stcompile.compiler.quantize.calibration import Calibration
from stcompile.compiler.steps import Tell, silent


@dataclass(frozen=True)
class QuantizationJob:
    """One route's graph to be quantized.

    Attributes:
        route: its name; empty where there is one graph for all.
        calibration: the texts that ranges and strengths are chosen on; None for a recipe that needs none.
        budget: the accuracy to keep; None takes the recipe's own.
        tell: told of progress within the step.
        fuses: whether encoder layers may become operators of the package's own.
        unfused: why this graph's may not where the target's recipe has them; empty where they may, or it has none.
        longest: most positions of a text; None where there is no limit.
        fixes_ranges: whether ranges of the calibration texts may be fixed for all others.
        records: what recipes did that is no precision, one for each route alike.
        networks: what OpenVINO runs in the place of the graph, of a recipe that rewrites that.
    """

    route: str
    calibration: Calibration | None = None
    budget: Budget | None = None
    tell: Tell = silent
    fuses: bool = False
    unfused: str = ""
    longest: int | None = None
    fixes_ranges: bool = True
    records: list[PassSummary] = field(default_factory=list)
    networks: list[Any] = field(default_factory=list)
