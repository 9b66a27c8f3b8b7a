"""The one row that pooling takes, taken before the last layer computes all the others."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from stcompile.compiler.passes.base import PassResult
from stcompile.compiler.passes.constants import added, constant_named, integers
from stcompile.compiler.passes.graph import Dim, NoMatch, constant, dims, finish, is_op, operand, swap
from stcompile.compiler.passes.token_wise import is_token_wise

_SEQUENCE = 1  # the axis of the rows
_MASK = 3  # the input of an Attention

# Where the exporter lets slices end that have no end.
_BEHIND_ALL = 2**31 - 1


class PoolEarly:
    """Takes the row of CLS and last-token pooling in front of the last layer's work, which is then done for it alone.

    GatherElements(x, one position a text) over the sequence, or the first or the last row of each text (Gather, Slice:
    heads that classify, logits of the last position), moves towards the inputs, through elementwise operators,
    LayerNormalization, means over the last axis, multiplications by a constant matrix, and into the query and the mask
    of an Attention that is not causal by attribute: each of their rows depends on the same row of its input only. Where
    it stops, GatherND takes the row. Nothing else may read what is computed on the way: token embeddings that are an
    output of their own are needed in full. The number of tokens is then 1 for a whole last layer but its keys and
    values.
    """

    name = "pool-early"

    def __call__(self, model: ir.Model) -> PassResult:
        rewrites = 0
        refusals: list[str] = []
        for gather in tuple(model.graph):
            place = _fixed_place(gather)
            takes_position = is_op(gather, "GatherElements") and gather.attributes.get_int("axis", 0) == _SEQUENCE
            if place is None and not takes_position:
                continue
            try:
                position, shape = (None, _rows_of(gather, model.graph)) if place is not None else _position(gather)
                inner = _rowwise(model.graph, gather, shape)
            except NoMatch as reason:
                if place is None:
                    refusals.append(str(reason))
                continue
            if position is None:
                position = _constant_position(model.graph, gather, place or 0, shape)
            _gather_early(model.graph, gather, position, inner, shape)
            rewrites += 1
        if rewrites:
            # The positions stood behind the layers that now read them.
            model.graph.sort()
        return finish(model, rewrites, refusals, "no pooling takes a single row")


def _fixed_place(node: ir.Node) -> int | None:
    """Which row of every text a node takes, 0 or -1; None where it does something else."""
    x = operand(node, 0)
    if x is None or len(dims(x) or ()) != 3 or x.is_initializer():
        return None
    if is_op(node, "Gather") and node.attributes.get_int("axis", 0) == _SEQUENCE:
        index = constant(operand(node, 1))
        place = None if index is None or index.shape != () else int(index)
    elif is_op(node, "Slice"):
        numbers = [constant(value) for value in node.inputs[1:]]
        if len(numbers) not in (3, 4) or any(found is None or found.size != 1 for found in numbers):
            return None
        start, stop, axis, *step = (int(found.reshape(())) for found in numbers if found is not None)
        one = (start, stop) == (0, 1) or (start == -1 and stop >= _BEHIND_ALL)
        place = start if one and axis in (_SEQUENCE, _SEQUENCE - 3) and step in ([], [1]) else None
    else:
        return None
    return place if place in (0, -1) else None


def _rows_of(gather: ir.Node, graph: ir.Graph) -> tuple[Dim, Dim]:
    """The axes that the rows are in: those of the texts."""
    x = operand(gather, 0)
    shape = None if x is None else dims(x)
    if shape is None or all(dims(value) != shape[:2] for value in graph.inputs):
        raise NoMatch("what a row is taken of is not known to be (batch, sequence, hidden)")
    return shape[0], shape[1]


def _constant_position(graph: ir.Graph, gather: ir.Node, place: int, rows: tuple[Dim, Dim]) -> ir.Value:
    """The same position for each text, `(batch, 1, 1)`."""
    what, name = "first" if place == 0 else "last", f"pool_early_{gather.outputs[0].name}"
    # Of an input of the graph: there before any layer, and of as many texts.
    source = next(value for value in graph.inputs if dims(value) == rows)
    batch = added(graph, gather, "Shape", [source], f"{name}_batch", {"start": 0, "end": 1})
    shape = added(
        graph, gather, "Concat", [batch, integers(graph, "pool_early_ones", [1, 1])], f"{name}_shape", {"axis": 0}
    )
    index = constant_named(graph, f"pool_early_{what}_index", np.full((1, 1, 1), place, dtype=np.int64))
    position = added(graph, gather, "Expand", [index, shape], f"{name}_position")
    position.type, position.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([rows[0], 1, 1])
    return position


def _position(gather: ir.Node) -> tuple[ir.Value, tuple[Dim, Dim]]:
    """The position of each text's row, `(batch, 1, 1)`, and the axes that the rows are in."""
    x, indices = operand(gather, 0), operand(gather, 1)
    expand = None if indices is None else indices.producer()
    shape = None if x is None else dims(x)
    if shape is None or len(shape) != 3 or None in shape:
        raise NoMatch("what a row is taken of is not known to be (batch, sequence, hidden)")
    if expand is None or not is_op(expand, "Expand"):
        raise NoMatch("the row is not one position for the whole width")
    position = operand(expand, 0)
    if position is None or dims(position) != (shape[0], 1, 1):
        raise NoMatch("the row is not one position for each text")
    return position, (shape[0], shape[1])


def _rowwise(graph: ir.Graph, gather: ir.Node, shape: tuple[Dim, Dim]) -> set[ir.Node]:
    """The nodes before `gather` that can work on the one row, since nothing else reads what they make."""
    inner: set[ir.Node] = {gather}
    for node in reversed(graph):
        made = node.outputs[0]
        uses = tuple(made.uses())
        if (
            uses
            and all(use.node in inner and use.idx in _row_inputs(use.node, shape) for use in uses)
            and not made.is_graph_output()
            and _has_rows(made, shape)
            and _is_rowwise(node, shape)
        ):
            inner.add(node)
    if not any(is_op(node, "MatMul") for node in inner):
        raise NoMatch("no matrix multiplication stands between the last mixing of tokens and the pooling")
    return inner


def _has_rows(value: ir.Value | None, shape: tuple[Dim, Dim]) -> bool:
    found = None if value is None else dims(value)
    return found is not None and len(found) == 3 and found[:2] == shape


def _row_inputs(node: ir.Node, shape: tuple[Dim, Dim]) -> list[int]:
    """Which inputs of a row-wise node are needed in one row only."""
    count = 1 if is_op(node, "Attention", "GatherElements") else len(node.inputs)
    return [index for index, value in enumerate(node.inputs[:count]) if _has_rows(value, shape)]


def _is_rowwise(node: ir.Node, shape: tuple[Dim, Dim]) -> bool:
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return False
    if is_op(node, "Attention"):
        return _takes_one_query(node, shape)
    return is_token_wise(node, _Rows(shape), _is_row)


@dataclass(frozen=True)
class _Rows(Container[ir.Value | None]):
    """The values with a row for each token."""

    shape: tuple[Dim, Dim]

    def __contains__(self, value: object) -> bool:
        return isinstance(value, ir.Value) and _has_rows(value, self.shape)


def _is_row(value: ir.Value | None) -> bool:
    """Whether it is the same for every row: a number, or a vector along the last axis."""
    found = None if value is None else dims(value)
    return found is not None and (len(found) < 2 or all(size == 1 for size in found[:-1]))


def _takes_one_query(node: ir.Node, shape: tuple[Dim, Dim]) -> bool:
    """Whether an Attention has nothing but query, key, value and perhaps a mask with a row for each query."""
    mask = operand(node, _MASK)
    found = None if mask is None else dims(mask)
    plain = not any(node.attributes.get_int(name, 0) for name in ("is_causal", "qk_matmul_output_mode"))
    return (
        plain
        and all(value is None for value in node.inputs[4:])
        and _has_rows(operand(node, 0), shape)
        and (mask is None or (found is not None and len(found) == 4 and found[:3] == (shape[0], 1, shape[1])))
    )


def _gather_early(
    graph: ir.Graph, gather: ir.Node, position: ir.Value, inner: set[ir.Node], shape: tuple[Dim, Dim]
) -> None:
    rows: dict[ir.Value, ir.Value] = {}
    outside = [
        (node, index, value)
        for node in graph
        if node in inner
        for index in _row_inputs(node, shape)
        if (value := node.inputs[index]) is not None and value.producer() not in inner
    ]
    for node, index, value in outside:
        if value not in rows:
            rows[value] = _taken(graph, value, position, node)
        node.replace_input_with(index, rows[value])
    for node in inner:
        if is_op(node, "Attention") and (mask := operand(node, _MASK)) is not None:
            node.replace_input_with(_MASK, _mask_row(graph, mask, position, node))
    for node in inner - {gather}:
        made = node.outputs[0]
        made.shape = None if made.shape is None else ir.Shape([made.shape[0], 1, made.shape[2]])
    taken = gather.inputs[0]
    if is_op(gather, "Gather"):
        return swap(graph, gather, ir.node("Squeeze", [taken, integers(graph, "pool_early_axis", [1])]))
    # Its output may be the graph's; CleanGraph takes the Identity out again where it is not.
    return swap(graph, gather, ir.node("Identity", [taken]))


def _mask_row(graph: ir.Graph, mask: ir.Value, position: ir.Value, before: ir.Node) -> ir.Value:
    """Of a mask `(batch, 1, sequence, sequence)` the row of the query that is left, `(batch, 1, 1, sequence)`."""
    axis = integers(graph, "pool_early_axis", [1])
    found = dims(mask) or ()
    flat = _inserted(graph, ir.node("Squeeze", [mask, axis]), mask, (found[0], found[2], found[3]), before)
    row = _taken(graph, flat, position, before)
    return _inserted(graph, ir.node("Unsqueeze", [row, axis]), mask, (found[0], 1, 1, found[3]), before)


def _taken(graph: ir.Graph, value: ir.Value, position: ir.Value, before: ir.Node) -> ir.Value:
    """The row of each text, `(batch, 1, width)`."""
    found = dims(value) or ()
    node = ir.node("GatherND", [value, position], attributes={"batch_dims": 1})
    return _inserted(graph, node, value, (found[0], 1, found[2]), before)


def _inserted(graph: ir.Graph, node: ir.Node, like: ir.Value, shape: tuple[Dim, ...], before: ir.Node) -> ir.Value:
    made = node.outputs[0]
    made.type, made.shape = like.type, ir.Shape(shape)
    graph.insert_before(before, node)
    return made
