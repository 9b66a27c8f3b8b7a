"""What every engine's graph computes of an activation before it is quantized: smoothing, and each token's scale."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from stcompile.compiler.passes.constants import added, constant_named, integers
from stcompile.compiler.passes.graph import constant, is_op
from stcompile.compiler.quantize.layers import Array, Layer
from stcompile.compiler.quantize.plan import LayerPlan
from stcompile.compiler.quantize.schemes import TOP_LEVEL, PerToken


def smoothed_input(graph: ir.Graph, plan: LayerPlan) -> ir.Value:
    """The tensor a layer reads, divided channel by channel as its plan says: its weights come multiplied.

    Where nothing else reads what a norm makes (networks that normalize before each layer), the division goes into the
    norm's own weight and costs nothing; otherwise it is a multiplication in front of the layer.
    """
    layer = plan.layer
    if plan.smoothing is None:
        return layer.data
    factor = (1 / plan.smoothing).astype(np.float32)
    if _only_reader(layer) and _folded_into_norm(graph, layer.data, factor):
        return layer.data
    name = f"{layer.data.name}_smoothed"
    return added(graph, layer.nodes[0], "Mul", [layer.data, constant_named(graph, f"{name}_by", factor)], name)


def token_scales(
    graph: ir.Graph, before: ir.Node, levels: PerToken, rows: ir.Value, name: str, *, keep_axis: bool
) -> ir.Value:
    """One scale for each of some rows `(..., in)`, as `PerToken.scales` computes it: `(..., 1)`, or `(...)` without it.

    The nodes stand before another one, and their names begin with `name`.
    """
    zero_point, least = levels.zero_point, levels.smallest_scale
    axis, flat = integers(graph, "last_axis", [-1]), {"keepdims": int(keep_axis)}
    largest = added(graph, before, "ReduceMax", [rows, axis], f"{name}_largest", flat)
    above = added(graph, before, "Mul", [largest, _share(graph, TOP_LEVEL - zero_point)], f"{name}_above")
    if zero_point and levels.never_below is None:
        smallest = added(graph, before, "ReduceMin", [rows, axis], f"{name}_smallest", flat)
        below = added(graph, before, "Mul", [smallest, _share(graph, -zero_point)], f"{name}_below")
        above = added(graph, before, "Max", [above, below], f"{name}_both")
    limit = constant_named(graph, f"scale_from_{least:.3g}", np.array(least, dtype=np.float32))
    return added(graph, before, "Max", [above, limit], f"{name}_scale")


def _share(graph: ir.Graph, count: int) -> ir.Value:
    return constant_named(graph, f"one_of_{count}", np.array(np.float32(1) / np.float32(count), dtype=np.float32))


def _only_reader(layer: Layer) -> bool:
    return not layer.data.is_graph_output() and {use.node for use in layer.data.uses()} == set(layer.nodes)


def _folded_into_norm(graph: ir.Graph, data: ir.Value, factor: Array) -> bool:
    norm = data.producer()
    if norm is None or not is_op(norm, "LayerNormalization", "Mul"):
        return False
    operands = {index: value for index, value in enumerate(norm.inputs) if value is not None}
    if is_op(norm, "Mul"):
        # What a norm without a mean ends with: it is multiplied by its gain.
        operands = {index: value for index, value in operands.items() if constant(value) is not None}
    else:
        del operands[0]
    arrays = {index: constant(value) for index, value in operands.items()}
    if not arrays or any(array is None or array.shape != factor.shape for array in arrays.values()):
        return False
    for index, array in arrays.items():
        assert array is not None
        product = array.astype(np.float32) * factor
        name = f"{operands[index].name}_for_{data.name}"
        norm.replace_input_with(index, constant_named(graph, name, product))
    return True
