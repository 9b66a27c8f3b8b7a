"""The plan: the candidate that each layer of a graph is computed as, and what a writer needs to write it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from stcompile.artifact.report import BudgetSummary, CalibrationSummary, LayerSummary, QuantizationSummary
from stcompile.compiler.quantize.candidates import FLOAT32, Candidate
from stcompile.compiler.quantize.layers import Array, Layer, find_layers
from stcompile.compiler.quantize.recording import Recording
from stcompile.compiler.quantize.rounding import compensated_blocks, compensated_columns
from stcompile.compiler.quantize.schemes import divided, smoothing_of
from stcompile.compiler.quantize.weights import Blocks, Columns, quantize_blocks, quantize_columns

# What stays in float32 by every recipe, by operator.
_KEPT = {
    "Gemm": "Dense on the pooled vector: it runs once a text and gains nothing",
    "Conv": "convolution: the engine has no kernel that takes its input in 8 bits as it comes",
    "LSTM": "LSTM: its state would carry the error of every step to the next",
}


@dataclass(frozen=True, eq=False)
class LayerPlan:
    """One layer, what it is computed as, and what that makes of its weights.

    Attributes:
        layer: which.
        chosen: how.
        smoothing: SmoothQuant's divisor of each input channel, which the weights are multiplied by; None without.
        weights: the rounded weights, one for each node of the layer; none for `float32`.
    """

    layer: Layer
    chosen: Candidate
    smoothing: Array | None = None
    weights: tuple[Columns, ...] | tuple[Blocks, ...] = ()

    @property
    def columns(self) -> list[Columns]:
        """The weights, of a candidate that has no blocks."""
        return [part for part in self.weights if isinstance(part, Columns)]

    @property
    def blocks(self) -> list[Blocks]:
        """The weights, of a candidate that has blocks."""
        return [part for part in self.weights if isinstance(part, Blocks)]

    def summary(self, route: str) -> LayerSummary:
        """What the report records."""
        chosen = self.chosen
        return LayerSummary(
            name=self.layer.name,
            route=route,
            matmuls=len(self.layer.nodes),
            scheme=chosen.scheme,
            bits=32 if chosen.scheme == FLOAT32 else chosen.bits,
            observer=chosen.observer,
            smoothing=chosen.strength,
            error=three_digits(chosen.error),
            sensitivity=three_digits(chosen.sensitivity),
            reason=chosen.reason,
        )


def planned(layer: Layer, chosen: Candidate, seen: Recording | None = None) -> LayerPlan:
    """Rounds a layer's weights; its recorded rows are in memory until that is done.

    Rounding compensates on what the layer read on the calibration texts; without that it is to the nearest level.
    """
    if chosen.scheme == FLOAT32:
        return LayerPlan(layer, chosen)
    smoothing = None if seen is None else smoothing_of(chosen.strength, seen.largest, layer.largest)
    weight = layer.weight
    if smoothing is not None:
        weight *= smoothing[:, None]
    # What several layers share must be rounded alike for all of them.
    rows = None if seen is None or layer.shares_weights else divided(seen.rows, smoothing)
    if rows is not None and chosen.levels is not None:
        rows = chosen.levels.restored(rows)
    ends = np.cumsum([part.shape[1] for part in layer.weights])[:-1].tolist()
    return LayerPlan(layer, chosen, smoothing, _rounded(weight, chosen, rows).parts(ends))


def _rounded(weight: Array, chosen: Candidate, rows: Array | None) -> Columns | Blocks:
    if chosen.block:
        if rows is None:
            return quantize_blocks(weight, chosen.bits, chosen.block)
        return compensated_blocks(weight, rows, chosen.bits, chosen.block)
    if rows is None:
        return quantize_columns(weight, pair_safe=chosen.pair_safe)
    return compensated_columns(weight, rows, pair_safe=chosen.pair_safe)


class Plans:
    """Plans for one graph and its copies: weights are rounded when a candidate is first written, and only then.

    Without a budget those are the chosen ones alone; a search for one writes graphs with several of a layer's options.
    """

    def __init__(self, layers: Sequence[Layer], seen: Sequence[Recording]) -> None:
        self._layers = layers
        self._seen = seen
        self._made: dict[tuple[int, Candidate], LayerPlan] = {}

    def of(self, model: ir.Model, chosen: Sequence[Candidate]) -> list[LayerPlan]:
        """The plan of each layer of the graph or a copy of it."""
        placed = enumerate(zip(find_layers(model.graph), chosen, strict=True))
        return [replace(self._plan(index, how), layer=layer, chosen=how) for index, (layer, how) in placed]

    def _plan(self, index: int, chosen: Candidate) -> LayerPlan:
        if (index, chosen) not in self._made:
            self._made[index, chosen] = planned(self._layers[index], chosen, self._seen[index])
        return self._made[index, chosen]


def summarized(
    scheme: str,
    model: ir.Model,
    plans: Sequence[LayerPlan],
    tables: int,
    *,
    route: str = "",
    calibration: CalibrationSummary | None = None,
    budget: BudgetSummary | None = None,
) -> QuantizationSummary:
    """The summary of a finished graph, in which so many tables became 8 bits, by the plans of its layers."""
    exact = Counter[str]()
    for plan in plans:
        if plan.chosen.scheme == FLOAT32:
            exact[plan.chosen.reason.partition(":")[0]] += len(plan.layer.nodes)
    return QuantizationSummary(
        scheme,
        sum(len(plan.layer.nodes) for plan in plans if plan.chosen.scheme != FLOAT32),
        tables,
        (*kept_operators(model), *(f"{count} MatMul: {reason}" for reason, count in exact.items())),
        calibration,
        tuple(plan.summary(route) for plan in plans),
        budget,
    )


def kept_operators(model: ir.Model) -> list[str]:
    """How many operators stay in float32 whatever the plan is, and why."""
    counts = {kind: sum(node.op_type == kind for node in model.graph) for kind in _KEPT}
    return [f"{counts[kind]} {reason}" for kind, reason in _KEPT.items() if counts[kind]]


def three_digits(value: float | None) -> float | None:
    """A measured number as the report records it."""
    # More would differ between CPUs, whose float32 sums do.
    return None if value is None else float(f"{value:.3g}")
