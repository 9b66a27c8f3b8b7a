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
from stcompile.compiler.passes.graph import swap, weight_of
from stcompile.compiler.quantize.activations import smoothed_input, token_scales
from stcompile.compiler.quantize.candidates import FLOAT32
from stcompile.compiler.quantize.plan import LayerPlan
from stcompile.compiler.quantize.schemes import PerToken, StaticRange
from stcompile.compiler.quantize.weights import Columns


def write_qdq_layers(model: ir.Model, plans: Sequence[LayerPlan]) -> None:
    """Rewrites the layers of a float32 graph as planned, in place: `per-batch` and fewer than 8 bits are not for it."""
    for plan in plans:
        if plan.chosen.scheme != FLOAT32:
            _quantize(model.graph, plan)
    RemoveUnusedNodesPass()(model)


def _quantize(graph: ir.Graph, plan: LayerPlan) -> None:
    first, levels = plan.layer.nodes[0], plan.chosen.levels
    name, scale = f"{plan.layer.data.name}_levels", None
    data = smoothed_input(graph, plan)
    if isinstance(levels, PerToken):
        scale = token_scales(graph, first, levels, data, name, keep_axis=True)
        data = added(graph, first, "Div", [data, scale], f"{name}_share")
        levels = StaticRange(1.0, levels.zero_point)
    if levels is not None:
        data = _through_levels(graph, first, data, levels, name)
    for node, columns in zip(plan.layer.nodes, plan.columns, strict=True):
        _multiply(graph, node, data, columns, scale)


def _through_levels(graph: ir.Graph, before: ir.Node, data: ir.Value, levels: StaticRange, name: str) -> ir.Value:
    scale = constant_named(graph, f"{name}_scale", np.array(levels.scale, dtype=np.float32))
    zero = constant_named(graph, f"{name}_zero_point", np.array(levels.zero_point, dtype=np.uint8))
    quantized = added(graph, before, "QuantizeLinear", [data, scale, zero], name)
    return added(graph, before, "DequantizeLinear", [quantized, scale, zero], f"{name}_back")


def _multiply(graph: ir.Graph, node: ir.Node, data: ir.Value, columns: Columns, scale: ir.Value | None) -> None:
    """The product with a weight in 8 bits, times each token's scale where it has one."""
    source = weight_of(node)
    restored = added(
        graph,
        node,
        "DequantizeLinear",
        [
            constant_named(graph, f"{source.name}_int8", columns.levels),
            constant_named(graph, f"{source.name}_scale", columns.scale),
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
