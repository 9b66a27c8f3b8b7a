"""Dynamic int8: weights quantized here per channel, activations at run time per batch.

Each `MatMul` with a constant weight becomes `DynamicQuantizeLinear` (shared by all that read the same tensor)
and `com.microsoft::MatMulIntegerToFloat` with the bias folded in: what ONNX Runtime would fuse at load at its
extended level, written out so that the engine has nothing left to rewrite. Activations are uint8 with one scale
per batch, so a text's vector depends on its batch mates; weights are symmetric int8, one scale per output column
(QInt8 weights run 2.4 times faster than QUInt8 on VNNI). Embedding tables become int8 with one scale per row.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from stcompile.manifest import QuantizationSummary
from stcompile.passes.graph import MICROSOFT, bias_add, constant, is_op, swap

_LEVELS = 127

# Tables smaller than this (token types, relative positions) save nothing and are added to every token.
_MIN_TABLE_ROWS = 256

# What stays in float32, by operator.
_KEPT = {
    "Gemm": "Dense on the pooled vector: it runs once a text and gains nothing",
    "Conv": "convolution: the engine has no kernel that takes its input in 8 bits as it comes",
    "LSTM": "LSTM: its state would carry the error of every step to the next",
}


def quantize_dynamic(model: ir.Model) -> QuantizationSummary:
    """Rewrites a float32 graph to dynamic int8, in place.

    Returns:
        how many matrix multiplications and tables were quantized, and what was kept.
    """
    quantizer = _Quantizer(model.graph)
    matmuls = list(_with_constant_weight(model.graph))
    for node in matmuls:
        quantizer.matmul(node)
    tables = sum(quantizer.table(node) for node in list(model.graph) if node.op_type == "Gather")
    counts = {kind: sum(node.op_type == kind for node in model.graph) for kind in _KEPT}
    RemoveUnusedNodesPass()(model)
    if matmuls:
        model.graph.opset_imports.setdefault(MICROSOFT, 1)
    kept = tuple(f"{counts[kind]} {reason}" for kind, reason in _KEPT.items() if counts[kind])
    return QuantizationSummary("dynamic", len(matmuls), tables, kept)


def quantize_rows(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 with one scale per row.

    Args:
        weight: `(rows, columns)`.

    Returns:
        `(rows, columns)` int8 in [-127, 127], and `(rows,)` scales; a zero row gets scale 1.
    """
    largest = np.abs(weight).max(axis=1)
    scale = np.where(largest > 0, largest / _LEVELS, 1).astype(np.float32)
    levels = np.clip(np.rint(weight / scale[:, None]), -_LEVELS, _LEVELS)
    return levels.astype(np.int8), scale


class _Quantizer:
    """The rewrites, with the quantized inputs that several matrix multiplications share."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._inputs: dict[ir.Value, tuple[ir.Value, ir.Value, ir.Value]] = {}
        self._tables: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}

    def matmul(self, node: ir.Node) -> None:
        """One MatMul, and the bias after it, in 8 bits."""
        data, weight = node.inputs
        array = constant(weight)
        assert data is not None
        assert weight is not None
        assert array is not None  # only such nodes are asked for
        levels, scale = quantize_rows(array.T.astype(np.float32, copy=False))
        name = weight.name
        quantized, data_scale, data_zero = self._quantized_input(data, node)
        add = bias_add(node, len(scale))
        fused = ir.node(
            "MatMulIntegerToFloat",
            [
                quantized,
                self._constant(f"{name}_int8", np.ascontiguousarray(levels.T)),
                data_scale,
                self._constant(f"{name}_scale", scale),
                data_zero,
                self._constant(f"{name}_zero_point", np.zeros(len(scale), dtype=np.int8)),
                *([] if add is None else [add.bias]),
            ],
            domain=MICROSOFT,
            name=f"{node.name}_int8",
        )
        swap(self._graph, node if add is None else add.node, fused)

    def table(self, node: ir.Node) -> bool:
        """One lookup in a large constant table: int8 rows, scaled after the lookup. False for any other Gather."""
        table, ids = node.inputs
        array = constant(table)
        axis = node.attributes.get("axis")
        on_rows = axis is None or axis.as_int() == 0
        if array is None or ids is None or array.ndim != 2 or not on_rows or len(array) < _MIN_TABLE_ROWS:
            return False
        # With constant ids it is no lookup but weights in another order; a single column is smaller as it is.
        if constant(ids) is not None or array.shape[1] < 2 or array.dtype != np.float32:
            return False
        assert table is not None
        if table not in self._tables:
            levels, scale = quantize_rows(array.astype(np.float32, copy=False))
            self._tables[table] = (
                self._constant(f"{table.name}_int8", levels),
                self._constant(f"{table.name}_scale", scale[:, None]),
            )
        rows, scales = (
            ir.node("Gather", [part, ids], {"axis": 0}, name=f"{node.name}_{label}")
            for part, label in zip(self._tables[table], ("int8", "scale"), strict=True)
        )
        wide = ir.node("Cast", [rows.outputs[0]], {"to": ir.DataType.FLOAT}, name=f"{node.name}_wide")
        scaled = ir.node("Mul", [wide.outputs[0], scales.outputs[0]], name=f"{node.name}_scaled")
        for new in (rows, scales, wide):
            new.outputs[0].name = f"{new.name}_output"
        self._graph.insert_before(node, [rows, scales, wide])
        swap(self._graph, node, scaled)
        return True

    def _quantized_input(self, data: ir.Value, before: ir.Node) -> tuple[ir.Value, ir.Value, ir.Value]:
        if data not in self._inputs:
            node = ir.node("DynamicQuantizeLinear", [data], num_outputs=3, name=f"{data.name}_quantize")
            for value, label in zip(node.outputs, ("quantized", "scale", "zero_point"), strict=True):
                value.name = f"{data.name}_{label}"
            self._graph.insert_before(before, node)
            self._inputs[data] = (node.outputs[0], node.outputs[1], node.outputs[2])
        return self._inputs[data]

    def _constant(self, name: str, array: NDArray[np.generic]) -> ir.Value:
        known = self._graph.initializers.get(name)
        if known is not None:
            return known
        value = ir.val(name, const_value=ir.tensor(array, name=name))
        self._graph.register_initializer(value)
        return value


def _with_constant_weight(graph: ir.Graph) -> Iterator[ir.Node]:
    for node in list(graph):
        array = constant(node.inputs[1]) if is_op(node, "MatMul") else None
        if array is not None and array.ndim == 2 and array.dtype == np.float32:
            yield node
