"""A plan to a graph for OpenVINO: QuantizeLinear and DequantizeLinear around what stays a MatMul.

OpenVINO's own low-precision transformations make integer multiplications of them. They know one scale for a whole
activation: a scale for each token divides in front of it and multiplies the product. Weights alone are one
DequantizeLinear, which OpenVINO keeps compressed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from stcompile.compiler.passes.constants import added, constant_named
from stcompile.compiler.passes.graph import swap
from stcompile.compiler.quantize.plan import FLOAT32, PER_TOKEN, STATIC, WEIGHTS, LayerPlan
from stcompile.compiler.quantize.rounded import Columns
from stcompile.compiler.quantize.schemes import StaticRange
from stcompile.compiler.quantize.smoothing import smoothed_input
from stcompile.compiler.quantize.token_scales import token_scales


def write_qdq_layers(model: ir.Model, plans: Sequence[LayerPlan]) -> None:
    """Rewrites the layers of a float32 graph as planned, in place: `per-batch` and fewer than 8 bits are not for it."""
    for plan in plans:
        if plan.scheme != FLOAT32:
            _write(model.graph, plan)
    RemoveUnusedNodesPass()(model)


def _write(graph: ir.Graph, plan: LayerPlan) -> None:
    assert plan.scheme in (STATIC, PER_TOKEN, WEIGHTS)
    assert plan.bits == 8
    data, first = smoothed_input(graph, plan.layer, plan.smoothing), plan.layer.nodes[0]
    name, scale = f"{plan.layer.data.name}_levels", None
    if plan.static is not None:
        data = _rounded(graph, first, data, plan.static, name)
    if plan.per_token is not None:
        scale = token_scales(graph, plan, data, name, keep_axis=True)
        data = added(graph, first, "Div", [data, scale], f"{name}_share")
        data = _rounded(graph, first, data, StaticRange(1.0, plan.per_token.zero_point), name)
    assert plan.weights is not None
    for node, columns in zip(plan.layer.nodes, plan.weights.columns, strict=True):
        _multiply(graph, node, data, columns, scale)


def _rounded(graph: ir.Graph, before: ir.Node, data: ir.Value, levels: StaticRange, name: str) -> ir.Value:
    scale = constant_named(graph, f"{name}_scale", np.array(levels.scale, dtype=np.float32))
    zero = constant_named(graph, f"{name}_zero_point", np.array(levels.zero_point, dtype=np.uint8))
    quantized = added(graph, before, "QuantizeLinear", [data, scale, zero], name)
    return added(graph, before, "DequantizeLinear", [quantized, scale, zero], f"{name}_back")


def _multiply(graph: ir.Graph, node: ir.Node, data: ir.Value, columns: Columns, scale: ir.Value | None) -> None:
    """The product with a weight in 8 bits, times each token's scale where it has one."""
    levels, column_scale = columns
    source = node.inputs[1]
    assert source is not None
    restored = added(
        graph,
        node,
        "DequantizeLinear",
        [
            constant_named(graph, f"{source.name}_int8", levels),
            constant_named(graph, f"{source.name}_scale", column_scale),
        ],
        f"{source.name}_restored_for_{node.name}",
        {"axis": 1},
    )
    if scale is None:
        node.replace_input_with(0, data)
        node.replace_input_with(1, restored)
        return
    product = added(graph, node, "MatMul", [data, restored], f"{node.name}_levels")
    swap(graph, node, ir.node("Mul", [product, scale], name=f"{node.name}_scaled"))
