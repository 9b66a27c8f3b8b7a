"""The scale of each token, computed in the graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from stcompile.compiler.passes.constants import added, constant_named, integers
from stcompile.compiler.quantize.plan import LayerPlan
from stcompile.compiler.quantize.schemes import TOP_LEVEL


def token_scales(graph: ir.Graph, plan: LayerPlan, rows: ir.Value, name: str, *, keep_axis: bool) -> ir.Value:
    """One scale a row, as `PerToken.scales` computes it.

    Args:
        graph: where to write.
        plan: a `per-token` one.
        rows: what is quantized, `(..., in)`.
        name: what the nodes' names begin with.
        keep_axis: whether the result is `(..., 1)` rather than `(...)`.
    """
    assert plan.per_token is not None
    first, zero_point, least = plan.layer.nodes[0], plan.per_token.zero_point, plan.per_token.smallest_scale
    axis, flat = integers(graph, "last_axis", [-1]), {"keepdims": int(keep_axis)}
    largest = added(graph, first, "ReduceMax", [rows, axis], f"{name}_largest", flat)
    above = added(graph, first, "Mul", [largest, _share(graph, TOP_LEVEL - zero_point)], f"{name}_above")
    if zero_point and plan.per_token.never_below is None:
        smallest = added(graph, first, "ReduceMin", [rows, axis], f"{name}_smallest", flat)
        below = added(graph, first, "Mul", [smallest, _share(graph, -zero_point)], f"{name}_below")
        above = added(graph, first, "Max", [above, below], f"{name}_both")
    limit = constant_named(graph, f"scale_from_{least:.3g}", np.array(least, dtype=np.float32))
    return added(graph, first, "Max", [above, limit], f"{name}_scale")


def _share(graph: ir.Graph, count: int) -> ir.Value:
    return constant_named(graph, f"one_of_{count}", np.array(np.float32(1) / np.float32(count), dtype=np.float32))
