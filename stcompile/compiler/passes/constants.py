"""Initializers and nodes that passes and recipes add to a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray


def constant_named(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """The initializer of that name; made of `array` where there is none yet."""
    known = graph.initializers.get(name)
    if known is not None:
        return known
    value = ir.val(name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value


def added(
    graph: ir.Graph,
    before: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    name: str,
    attributes: Mapping[str, int] | None = None,
    *,
    domain: str = "",
) -> ir.Value:
    """Puts a node of one output before another, and returns that output."""
    node = ir.node(op_type, inputs, dict(attributes or {}), domain=domain, name=name)
    node.outputs[0].name = f"{name}_output"
    graph.insert_before(before, node)
    return node.outputs[0]


def integers(graph: ir.Graph, name: str, values: Sequence[int]) -> ir.Value:
    """An int64 vector as an initializer, for axes and shapes."""
    return constant_named(graph, name, np.array(values, dtype=np.int64))


def hold_constants(graph: ir.Graph) -> None:
    """Makes nodes of the initializers of a function's graph, which may have none."""
    for value in list(graph.initializers.values()):
        node = ir.node("Constant", [], {"value": value.const_value}, name=f"{value.name}_constant")
        made = node.outputs[0]
        value.replace_all_uses_with(made)
        del graph.initializers[str(value.name)]
        made.name = value.name
        graph.insert_before(graph[0], node)
