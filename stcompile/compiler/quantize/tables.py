"""Embedding tables in fewer bits: int8 rows with a scale each, scaled after the lookup, or float16."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from stcompile.compiler.passes.constants import added, constant_named
from stcompile.compiler.passes.graph import constant, swap
from stcompile.compiler.quantize.weights import quantize_rows

# Tables smaller than this (token types, relative positions) save nothing and are added to every token.
MIN_TABLE_ROWS = 256


def quantize_tables(model: ir.Model) -> int:
    """Rewrites every lookup in a large constant table, in place. Returns how many were rewritten."""
    graph, lookups = model.graph, _lookups(model)
    for node, table, array in lookups:
        ids, (levels, scale) = node.inputs[1], quantize_rows(array)
        parts = {
            "int8": constant_named(graph, f"{table.name}_int8", levels),
            "scale": constant_named(graph, f"{table.name}_scale", scale[:, None]),
        }
        rows, scales = (
            added(graph, node, "Gather", [part, ids], f"{node.name}_{label}", {"axis": 0})
            for label, part in parts.items()
        )
        wide = added(graph, node, "Cast", [rows], f"{node.name}_wide", {"to": ir.DataType.FLOAT})
        swap(graph, node, ir.node("Mul", [wide, scales], name=f"{node.name}_scaled"))
    RemoveUnusedNodesPass()(model)
    return len(lookups)


def halve_tables(model: ir.Model) -> int:
    """Stores every large constant table that is looked up in float16, in place. Returns how many.

    What a table holds is a float32 again behind the lookup: the rounding is 2^-11 of each number.
    """
    graph = model.graph
    lookups = [found for found in _lookups(model) if np.abs(found[2]).max() <= np.finfo(np.float16).max]
    for node, table, array in lookups:
        half = constant_named(graph, f"{table.name}_float16", array.astype(np.float16))
        rows = added(graph, node, "Gather", [half, node.inputs[1]], f"{node.name}_half", {"axis": 0})
        swap(graph, node, ir.node("Cast", [rows], {"to": ir.DataType.FLOAT}, name=f"{node.name}_wide"))
    RemoveUnusedNodesPass()(model)
    return len(lookups)


def _lookups(model: ir.Model) -> list[tuple[ir.Node, ir.Value, NDArray[np.float32]]]:
    """The nodes that look rows up in a large constant float32 table, with the table."""
    found = []
    for node in model.graph:
        table = node.inputs[0] if node.op_type == "Gather" else None
        array = constant(table)
        if table is None or array is None or array.ndim != 2 or array.dtype != np.float32:
            continue
        on_rows = node.attributes.get_int("axis", 0) == 0
        # With constant ids it is no lookup but weights in another order; a single column is smaller as it is.
        if on_rows and constant(node.inputs[1]) is None and len(array) >= MIN_TABLE_ROWS and array.shape[1] > 1:
            found.append((node, table, array.astype(np.float32, copy=False)))
    return found
