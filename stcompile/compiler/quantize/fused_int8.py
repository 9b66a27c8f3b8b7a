"""8 bits, encoder layers fused: every token's activations with a scale of their own, weights per output column."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from stcompile.artifact.report import QuantizationSummary
from stcompile.compiler.passes.encoder_layers import EncoderLayer, Linear
from stcompile.compiler.quantize.calibrated import Calibrated
from stcompile.compiler.quantize.candidates import INT8_FUSED, PER_TOKEN
from stcompile.compiler.quantize.fused_layers import (
    Packed,
    biases,
    checked_layers,
    fusable_layers,
    panels,
    unfused,
    write_layer,
)
from stcompile.compiler.quantize.integer_graph import write_integer_layers
from stcompile.compiler.quantize.job import QuantizationJob
from stcompile.compiler.quantize.layers import split_token_gemms
from stcompile.compiler.quantize.plan import LayerPlan
from stcompile.compiler.quantize.schemes import PerToken

_WORD = 4


def quantize_int8_fused(model: ir.Model, job: QuantizationJob) -> QuantizationSummary:
    """Rewrites a float32 graph, in place.

    Raises:
        UnsupportedError: no encoder layer can be fused.
        BudgetError: not even with every layer in float32 is the budget met.
    """
    split_token_gemms(model)
    _, refusals = checked_layers(model, "onnx-int8")
    summary = Calibrated("int8-fused", INT8_FUSED, _write_fused_layers)(model, job)
    return dataclasses.replace(summary, kept=(*summary.kept, *unfused(model, refusals)))


def _write_fused_layers(model: ir.Model, plans: Sequence[LayerPlan]) -> None:
    by_node = {node: plan for plan in plans for node in plan.layer.nodes}
    fused: set[LayerPlan] = set()
    for layer in fusable_layers(model)[0]:
        own = _plans_of(layer, by_node)
        if own is not None:
            write_layer(model, layer, "EncoderLayerInt8", partial(_in_8_bits, own))
            fused.update(own.values())
    RemoveUnusedNodesPass()(model)
    write_integer_layers(model, [plan for plan in plans if plan not in fused])


def _plans_of(layer: EncoderLayer, by_node: dict[ir.Node, LayerPlan]) -> dict[ir.Node, LayerPlan] | None:
    """The plan of each linear layer; None unless all are in 8 bits and read by this layer alone."""
    groups = ([layer.query, layer.key, layer.value], [layer.output], [layer.up], [layer.down])
    found: dict[ir.Node, LayerPlan] = {}
    for group in groups:
        nodes = [linear.node for linear in group]
        plan = by_node.get(nodes[0])
        if plan is None or plan.chosen.scheme != PER_TOKEN or {*plan.layer.nodes} != {*nodes}:
            return None
        found |= dict.fromkeys(nodes, plan)
    return found


def _in_8_bits(
    plans: dict[ir.Node, LayerPlan], name: str, linears: Sequence[Linear], factors: NDArray[np.float32]
) -> Packed:
    plan = plans[linears[0].node]
    tokens = plan.chosen.levels
    assert isinstance(tokens, PerToken)
    columns = dict(zip(plan.layer.nodes, plan.columns, strict=True))
    levels, scales = zip(*(columns[linear.node] for linear in linears), strict=True)
    width = linears[0].weight.shape[0]
    smoothing = np.ones(width, dtype=np.float32) if plan.smoothing is None else plan.smoothing
    return Packed(
        {
            "panels": panels(np.concatenate(levels, axis=1), _WORD),
            "bias": biases(linears, factors),
            "scale": np.concatenate(scales) * factors,
            "smoothed_by": (1 / smoothing).astype(np.float32),
        },
        {
            f"{name}_zero_point": tokens.zero_point,
            f"{name}_smallest_scale": tokens.smallest_scale,
        },
    )
