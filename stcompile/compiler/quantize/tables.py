"""Embedding tables in fewer bits: int8 rows with a scale each, scaled after the lookup, or float16."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from stcompile.compiler.passes.constants import added, constant_named
from stcompile.compiler.passes.graph import constant, swap
from stcompile.compiler.quantize.weights import quantize_rows

# Tables smaller than this (token types, relative positions) save nothing and are added to every token.
_MIN_TABLE_ROWS = 256


def quantize_tables(model: ir.Model) -> int:
    """Rewrites every lookup in a large constant table, in place. Returns how many were rewritten."""
    return _rewritten(model, _quantize)


def halve_tables(model: ir.Model) -> int:
    """Stores every large constant table that is looked up in float16, in place. Returns how many.

    What a table holds is a float32 again behind the lookup: the rounding is 2^-11 of each number.
    """
    return _rewritten(model, _halve)


def _rewritten(model: ir.Model, rewrite: Callable[[ir.Graph, ir.Node], bool]) -> int:
    count = sum(rewrite(model.graph, node) for node in list(model.graph))
    if count:
        RemoveUnusedNodesPass()(model)
    return count


def _halve(graph: ir.Graph, node: ir.Node) -> bool:
    array = _table(node)
    if array is None or np.abs(array).max() > np.finfo(np.float16).max:
        return False
    table, ids = node.inputs
    assert table is not None
    half = constant_named(graph, f"{table.name}_float16", array.astype(np.float16))
    rows = added(graph, node, "Gather", [half, ids], f"{node.name}_half", {"axis": 0})
    swap(graph, node, ir.node("Cast", [rows], {"to": ir.DataType.FLOAT}, name=f"{node.name}_wide"))
    return True


def _table(node: ir.Node) -> NDArray[np.float32] | None:
    """The large constant float32 table that a node looks rows up in; None for anything else."""
    if node.op_type != "Gather":
        return None
    table, ids = node.inputs
    array = constant(table)
    axis = node.attributes.get("axis")
    on_rows = axis is None or axis.as_int() == 0
    if array is None or ids is None or array.ndim != 2 or not on_rows or len(array) < _MIN_TABLE_ROWS:
        return None
    # With constant ids it is no lookup but weights in another order; a single column is smaller as it is.
    if constant(ids) is not None or array.shape[1] < 2 or array.dtype != np.float32:
        return None
    return array.astype(np.float32, copy=False)


def _quantize(graph: ir.Graph, node: ir.Node) -> bool:
    array = _table(node)
    if array is None:
        return False
    table, ids = node.inputs
    assert table is not None
    levels, scale = quantize_rows(array)
    parts = {
        "int8": constant_named(graph, f"{table.name}_int8", levels),
        "scale": constant_named(graph, f"{table.name}_scale", scale[:, None]),
    }
    rows, scales = (
        ir.node("Gather", [part, ids], {"axis": 0}, name=f"{node.name}_{label}") for label, part in parts.items()
    )
    wide = ir.node("Cast", [rows.outputs[0]], {"to": ir.DataType.FLOAT}, name=f"{node.name}_wide")
    scaled = ir.node("Mul", [wide.outputs[0], scales.outputs[0]], name=f"{node.name}_scaled")
    for new in (rows, scales, wide):
        new.outputs[0].name = f"{new.name}_output"
    graph.insert_before(node, [rows, scales, wide])
    swap(graph, node, scaled)
    return True
