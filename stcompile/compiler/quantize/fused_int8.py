"""8 bits, encoder layers fused: every token's activations with a scale of their own, weights per output column."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from stcompile.compiler.passes.encoder_layers import EncoderLayer, Linear
from stcompile.compiler.quantize.candidates import PER_TOKEN
from stcompile.compiler.quantize.fused_layers import Packed, biases, fusable_layers, summary, write_layers
from stcompile.compiler.quantize.job import QuantizationJob
from stcompile.compiler.quantize.layer_bodies import INT8
from stcompile.compiler.quantize.plan import LayerPlan
from stcompile.compiler.quantize.schemes import PerToken

_WORD = 4


def write_operators(model: ir.Model, plans: Sequence[LayerPlan], job: QuantizationJob) -> list[LayerPlan]:
    """Makes operators, in place, of those encoder layers of a float32 graph of which all is planned in 8 bits by token.

    Returns:
        the plans of what is not in them.
    """
    by_node = {node: plan for plan in plans for node in plan.layer.nodes}
    layers, refusals = fusable_layers(model, job.longest)
    planned = [(layer, own) for layer in layers if (own := _plans_of(layer, by_node)) is not None]
    write_layers(model, [layer for layer, _ in planned], INT8, [partial(_in_8_bits, own) for _, own in planned])
    job.records[:] = [summary(model, len(planned), refusals)]
    fused = {plan for _, own in planned for plan in own.values()}
    return [plan for plan in plans if plan not in fused]


def in_encoder_layers(model: ir.Model, job: QuantizationJob) -> set[ir.Node]:
    """The matrix multiplications of a float32 graph that an operator may compute."""
    layers, _ = fusable_layers(model, job.longest)
    return {linear.node for layer in layers for linears in layer.linears for linear in linears}


def _plans_of(layer: EncoderLayer, by_node: dict[ir.Node, LayerPlan]) -> dict[ir.Node, LayerPlan] | None:
    """The plan of each linear layer; None unless all are in 8 bits and read by this layer alone."""
    found: dict[ir.Node, LayerPlan] = {}
    for group in layer.linears:
        nodes = [linear.node for linear in group]
        plan = by_node.get(nodes[0])
        if plan is None or plan.chosen.scheme != PER_TOKEN or {*plan.layer.nodes} != {*nodes}:
            return None
        found |= dict.fromkeys(nodes, plan)
    return found


def _in_8_bits(plans: dict[ir.Node, LayerPlan], linears: Sequence[Linear], factors: NDArray[np.float32]) -> Packed:
    plan = plans[linears[0].node]
    tokens = plan.chosen.levels
    assert isinstance(tokens, PerToken)
    columns = dict(zip(plan.layer.nodes, plan.columns, strict=True))
    levels, scales = zip(*(columns[linear.node] for linear in linears), strict=True)
    width = linears[0].weight.shape[0]
    smoothing = np.ones(width, dtype=np.float32) if plan.smoothing is None else plan.smoothing
    return Packed(
        partial(np.concatenate, levels, axis=1),
        ir.DataType.INT8,
        _WORD,
        {"bias": biases(linears, factors), "scale": np.concatenate(scales) * factors},
        {"smoothed_by": (1 / smoothing).astype(np.float32)},
        {"zero_point": tokens.zero_point, "smallest_scale": tokens.smallest_scale},
    )
