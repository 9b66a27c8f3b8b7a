"""An attention whose scores a soft cap bends, in ONNX's own operators but Attention, between 3-D tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from stcompile.compiler.passes._attention import Attention
from stcompile.compiler.passes.constants import constant_named, integers
from stcompile.compiler.passes.graph import Dim, dims

_HEADS_SECOND = (0, 2, 1, 3)
_HEADS_SECOND_SIZE_THIRD = (0, 2, 3, 1)


def bent(graph: ir.Graph, match: Attention, parts: Sequence[ir.Value], mask: ir.Value | None) -> ir.Node:
    """softmax(cap * tanh(scale / cap * split(q) @ split(k).T) + mask) @ split(v): the last node, to be placed.

    Attention has a soft cap too, but ONNX Runtime adds the mask before it up to 1.26, and behind it from 1.27 on: a
    graph that is right in all has none. https://onnx.ai/onnx/operators/onnx__Attention.html

    Args:
        graph: the nodes before the last stand before `match.merge` in it.
        match: what is rewritten; it has a soft cap.
        parts: query, key and value, `(batch, length, heads * size)` each, with as many heads each.
        mask: what is added, `(batch or 1, heads or 1, queries, keys)`.
    """
    batch, queries = (dims(match.query) or ())[:2]
    keys = (dims(match.key) or ())[1]
    heads, cap = match.heads, match.soft_cap
    assert cap is not None
    like = match.query

    def made(
        op_type: str, inputs: Sequence[ir.Value], sizes: tuple[Dim, ...], **attributes: int | Sequence[int]
    ) -> ir.Value:
        node = ir.node(op_type, inputs, attributes)
        graph.insert_before(match.merge, node)
        node.outputs[0].type, node.outputs[0].shape = like.type, ir.Shape(sizes)
        return node.outputs[0]

    def split(x: ir.Value, length: Dim, size: int, perm: tuple[int, ...]) -> ir.Value:
        sizes = (batch, length, heads, size)
        apart = made("Reshape", [x, integers(graph, f"heads_{heads}x{size}", [0, 0, heads, size])], sizes)
        return made("Transpose", [apart], tuple(sizes[axis] for axis in perm), perm=perm)

    def number(value: float) -> ir.Value:
        assert like.dtype is not None  # find_attention knows the shapes, and so the types
        return constant_named(graph, f"soft_cap_{value!r}", np.array(value, dtype=like.dtype.numpy()))

    query, key, value = parts
    square = (batch, heads, queries, keys)
    left = split(query, queries, match.size, _HEADS_SECOND)
    right = split(key, keys, match.size, _HEADS_SECOND_SIZE_THIRD)
    weighed = split(value, keys, match.value_size, _HEADS_SECOND)
    shares = made("Mul", [made("MatMul", [left, right], square), number(match.scale / cap)], square)
    scores = made("Mul", [made("Tanh", [shares], square), number(cap)], square)
    if mask is not None:
        scores = made("Add", [scores, mask], square)
    chances = made("Softmax", [scores], square, axis=-1)
    found = made("MatMul", [chances, weighed], (batch, heads, queries, match.value_size))
    back = made("Transpose", [found], (batch, queries, heads, match.value_size), perm=_HEADS_SECOND)
    flat = heads * match.value_size
    return ir.node("Reshape", [back, integers(graph, f"heads_{flat}", [0, 0, flat])])
