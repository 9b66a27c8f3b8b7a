"""What a recipe did, for the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import onnx_ir as ir

from stcompile.artifact.report import BudgetSummary, CalibrationSummary, QuantizationSummary
from stcompile.compiler.quantize.plan import FLOAT32, LayerPlan

# What stays in float32, by operator.
_KEPT = {
    "Gemm": "Dense on the pooled vector: it runs once a text and gains nothing",
    "Conv": "convolution: the engine has no kernel that takes its input in 8 bits as it comes",
    "LSTM": "LSTM: its state would carry the error of every step to the next",
}


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
    """The summary of one graph.

    Args:
        scheme: the recipe's name.
        model: the finished graph.
        plans: how its layers were computed.
        tables: embedding tables that became 8 bits.
        route: its route.
        calibration: the texts the plans rest on.
        budget: the accuracy that was asked for and reached.
    """
    counts = {kind: sum(node.op_type == kind for node in model.graph) for kind in _KEPT}
    kept = [f"{counts[kind]} {reason}" for kind, reason in _KEPT.items() if counts[kind]]
    exact = Counter[str]()
    for plan in plans:
        if plan.scheme == FLOAT32:
            exact[plan.reason.partition(":")[0]] += len(plan.layer.nodes)
    return QuantizationSummary(
        scheme,
        sum(len(plan.layer.nodes) for plan in plans if plan.scheme != FLOAT32),
        tables,
        (*kept, *(f"{count} MatMul: {reason}" for reason, count in exact.items())),
        calibration,
        tuple(plan.summary(route) for plan in plans),
        budget,
    )
