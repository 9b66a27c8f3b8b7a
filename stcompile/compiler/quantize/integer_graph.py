"""A plan to a graph for ONNX Runtime: integer matrix multiplications written out, nothing left to fuse.

`com.microsoft::MatMulIntegerToFloat` multiplies uint8 activations with int8 weights and scales the sum per output
column, with the bias folded in where one activation scale serves all tokens. Per token the scale is a column of its
own: it divides inside QuantizeLinear (one scale per row) and multiplies the product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from stcompile.compiler.passes.constants import added, constant_named, integers
from stcompile.compiler.passes.graph import MICROSOFT, bias_add, swap, weight_of
from stcompile.compiler.quantize.activations import smoothed_input, token_scales
from stcompile.compiler.quantize.candidates import FLOAT32, PER_BATCH, PER_TOKEN, STATIC, WEIGHTS
from stcompile.compiler.quantize.plan import LayerPlan
from stcompile.compiler.quantize.schemes import PerToken, StaticRange
from stcompile.compiler.quantize.weights import Columns

# MatMulNBits: activations are quantized by the engine, per token and block.
_ACCURACY_LEVEL = 4


def write_integer_layers(model: ir.Model, plans: Sequence[LayerPlan]) -> None:
    """Rewrites the layers of a float32 graph as planned, in place."""
    for plan in plans:
        if plan.chosen.scheme != FLOAT32:
            _WRITERS[plan.chosen.scheme](model.graph, plan)
            model.graph.opset_imports.setdefault(MICROSOFT, 1)
    RemoveUnusedNodesPass()(model)


@dataclass(frozen=True)
class _Quantized:
    """An activation as integers.

    Attributes:
        levels: uint8; per token `(rows, in)`, otherwise as the tensor was.
        scale: a scalar; per token 1, for the product is scaled afterwards.
        zero_point: a scalar.
    """

    levels: ir.Value
    scale: ir.Value
    zero_point: ir.Value


def _static(graph: ir.Graph, plan: LayerPlan) -> None:
    levels, first = plan.chosen.levels, plan.layer.nodes[0]
    assert isinstance(levels, StaticRange)
    name = f"{plan.layer.data.name}_static"
    data = smoothed_input(graph, plan)
    scale = constant_named(graph, f"{name}_scale", np.array(levels.scale, dtype=np.float32))
    zero = constant_named(graph, f"{name}_zero_point", np.array(levels.zero_point, dtype=np.uint8))
    _write_products(graph, plan, _Quantized(_levels(graph, first, [data, scale, zero], name), scale, zero))


def _levels(
    graph: ir.Graph, before: ir.Node, inputs: Sequence[ir.Value], name: str, attributes: Mapping[str, int] | None = None
) -> ir.Value:
    """QuantizeLinear in ONNX Runtime's own domain: it is the same kernel, and in ONNX's a graph with `Attention`, of
    opset 23, would name a version of it that ONNX Runtime has since 1.24 only."""
    return added(graph, before, "QuantizeLinear", inputs, name, attributes, domain=MICROSOFT)


def _per_batch(graph: ir.Graph, plan: LayerPlan) -> None:
    data = smoothed_input(graph, plan)
    node = ir.node("DynamicQuantizeLinear", [data], num_outputs=3, name=f"{data.name}_quantize")
    for value, label in zip(node.outputs, ("quantized", "scale", "zero_point"), strict=True):
        value.name = f"{data.name}_{label}"
    graph.insert_before(plan.layer.nodes[0], node)
    _write_products(graph, plan, _Quantized(*node.outputs))


def _per_token(graph: ir.Graph, plan: LayerPlan) -> None:
    layer, first, tokens = plan.layer, plan.layer.nodes[0], plan.chosen.levels
    assert isinstance(tokens, PerToken)
    source, name = layer.data, f"{layer.data.name}_tokens"
    data = smoothed_input(graph, plan)
    width = len(layer.weights[0])
    rows = added(graph, first, "Reshape", [data, integers(graph, f"rows_of_{width}", [-1, width])], f"{name}_rows")
    scale = token_scales(graph, first, tokens, rows, name, keep_axis=False)
    zero = constant_named(graph, f"zero_point_{tokens.zero_point}", np.array(tokens.zero_point, dtype=np.uint8))
    count = added(graph, first, "Shape", [scale], f"{name}_count")
    zeros = added(graph, first, "Expand", [zero, count], f"{name}_zero_points")
    levels = _levels(graph, first, [rows, scale, zeros], f"{name}_levels", {"axis": 0})
    column = added(graph, first, "Unsqueeze", [scale, integers(graph, "last_axis", [-1])], f"{name}_column")
    axes = added(graph, first, "Shape", [source], f"{name}_axes", {"start": 0, "end": -1})
    one = constant_named(graph, "scale_of_one", np.array(1, dtype=np.float32))
    for node, columns in zip(layer.nodes, plan.columns, strict=True):
        out = len(columns.scale)
        product = _product(graph, node, _Quantized(levels, one, zero), columns, None)
        label = str(node.name)
        graph.insert_before(node, product)
        scaled = added(graph, node, "Mul", [product.outputs[0], column], f"{label}_scaled")
        end, bias = bias_add(node, out)
        if bias is not None:
            scaled = added(graph, node, "Add", [scaled, bias], f"{label}_biased")
        width_out = integers(graph, f"width_{out}", [out])
        shape = added(graph, node, "Concat", [axes, width_out], f"{label}_shape", {"axis": 0})
        back = ir.node("Reshape", [scaled, shape], name=f"{label}_back")
        swap(graph, end, back)


def _weights(graph: ir.Graph, plan: LayerPlan) -> None:
    data, bits = smoothed_input(graph, plan), plan.chosen.bits
    for node, blocks in zip(plan.layer.nodes, plan.blocks, strict=True):
        name = f"{weight_of(node).name}_{bits}bit"
        out = len(blocks.scale)
        end, bias = bias_add(node, out)
        levels, zeros = (_by_bytes(part, bits) for part in (blocks.levels, blocks.zero_point))
        fused = ir.node(
            "MatMulNBits",
            [
                data,
                constant_named(graph, name, levels),
                constant_named(graph, f"{name}_scale", blocks.scale),
                constant_named(graph, f"{name}_zero_point", zeros) if bits < 8 else None,
                None,
                bias,
            ],
            {
                "K": blocks.size,
                "N": out,
                "bits": bits,
                "block_size": plan.chosen.block,
                "accuracy_level": _ACCURACY_LEVEL,
            },
            domain=MICROSOFT,
            name=f"{node.name}_{bits}bit",
        )
        swap(graph, end, fused)


def _write_products(graph: ir.Graph, plan: LayerPlan, quantized: _Quantized) -> None:
    """The layer's products, biases folded in: one scale serves all tokens."""
    for node, columns in zip(plan.layer.nodes, plan.columns, strict=True):
        end, bias = bias_add(node, len(columns.scale))
        swap(graph, end, _product(graph, node, quantized, columns, bias))


def _product(graph: ir.Graph, node: ir.Node, quantized: _Quantized, columns: Columns, bias: ir.Value | None) -> ir.Node:
    name, out = str(weight_of(node).name), len(columns.scale)
    inputs = [
        quantized.levels,
        constant_named(graph, f"{name}_int8", columns.levels),
        quantized.scale,
        constant_named(graph, f"{name}_scale", columns.scale),
        quantized.zero_point,
        constant_named(graph, f"zeros_{out}", np.zeros(out, dtype=np.int8)),
        *([] if bias is None else [bias]),
    ]
    product = ir.node("MatMulIntegerToFloat", inputs, domain=MICROSOFT, name=f"{node.name}_int8")
    product.outputs[0].name = f"{node.name}_int8_output"
    return product


def _by_bytes(levels: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Two 4-bit numbers a byte along the last axis, the first one low; 8-bit ones as they are."""
    if bits == 8:
        return levels
    if levels.shape[-1] % 2:
        levels = np.concatenate([levels, np.zeros((*levels.shape[:-1], 1), dtype=np.uint8)], axis=-1)
    packed: NDArray[np.uint8] = levels[..., 0::2] | (levels[..., 1::2] << np.uint8(4))
    return packed


_WRITERS: Mapping[str, Callable[[ir.Graph, LayerPlan], None]] = MappingProxyType(
    {STATIC: _static, PER_TOKEN: _per_token, PER_BATCH: _per_batch, WEIGHTS: _weights}
)
