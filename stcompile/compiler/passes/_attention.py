"""An attention as the pattern finds it, and what is added to its scores as the one tensor the fused operators take."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from stcompile.compiler.passes.graph import Dim, NoMatch, dims, same


@dataclass(frozen=True)
class HeadNorm:
    """RMS normalization of the numbers of each head: the gain `(size,)`."""

    gain: ir.Value
    epsilon: float


@dataclass(frozen=True)
class Rotary:
    """Rotary position embeddings (Su et al., 2021) of the first `2 * half` numbers of a head.

    The i-th turns with the one `half` behind it; interleaved, with its neighbour.

    Attributes:
        cos: `(batch or 1, 1, length, 2 * half)`, or with the axis of 1 third; both halves of the last axis are alike,
            interleaved both of each pair of neighbours.
        sin: likewise.
        half: how many angles there are.
        interleaved: whether neighbours turn together.
    """

    cos: ir.Value
    sin: ir.Value
    half: int
    interleaved: bool


@dataclass(frozen=True)
class Attention:
    """One attention of a graph.

    Attributes:
        query: (batch, queries, heads * size), before it is split into heads.
        key: (batch, keys, key heads * size).
        value: (batch, keys, key heads * value size).
        addends: what is added to the scaled scores, outermost last; together they broadcast to
            (batch or 1, heads or 1, queries or 1, keys), the type is the query's.
        scale: what the scores are multiplied by, positive.
        soft_cap: below which scaled scores are bent before anything is added: cap tanh(score / cap) (Bello et al.,
            2016); None where they are not.
        heads: how many heads the query has.
        key_heads: how many key and value have, each for as many neighbouring heads of the query.
        size: of a head of query and key.
        value_size: of a head of the value.
        query_norm: what is done to each head of the query first, if anything.
        key_norm: to each head of the key.
        rotary: what is then done to both, if anything.
        merge: the last node, a Reshape to (batch, queries, heads * value size).
    """

    query: ir.Value
    key: ir.Value
    value: ir.Value
    addends: tuple[ir.Value, ...]
    scale: float
    soft_cap: float | None
    heads: int
    key_heads: int
    size: int
    value_size: int
    query_norm: HeadNorm | None
    key_norm: HeadNorm | None
    rotary: Rotary | None
    merge: ir.Node

    @property
    def is_plain(self) -> bool:
        """Whether nothing is done to heads before their products."""
        return (self.query_norm, self.key_norm, self.rotary) == (None,) * 3 and self.heads == self.key_heads


def broadcast(addends: tuple[ir.Value, ...]) -> tuple[Dim, Dim, Dim, Dim]:
    """The shape of the sum of four-axis values. Raises `NoMatch` where it is not known."""
    result: list[Dim] = [1, 1, 1, 1]
    for addend in addends:
        shape = dims(addend)
        if shape is None or len(shape) != 4 or None in shape:
            raise NoMatch("the shape of what is added to the scores is not known, or not four axes")
        for axis, dim in enumerate(shape):
            if result[axis] not in (1, dim) and dim != 1:
                raise NoMatch("what is added to the scores does not agree on a shape")
            result[axis] = dim if result[axis] == 1 else result[axis]
    return result[0], result[1], result[2], result[3]


def bias(graph: ir.Graph, match: Attention, made: dict[tuple[object, ...], ir.Value]) -> ir.Value | None:
    """One (batch or 1, heads or 1, queries, keys) value of all that is added to the scores, or None.

    Both fused operators want the queries' axis at full length, so a (batch, 1, 1, keys) mask is repeated
    over the queries here. What must be computed for that stands before `match.merge`, and is kept in `made`, so that
    the layers of a graph share it.
    """
    if not match.addends:
        return None
    queries = (dims(match.query) or ())[1]
    key = (match.addends, queries)
    if key not in made:
        total = match.addends[0]
        for addend in match.addends[1:]:
            node = ir.node("Add", [total, addend])
            graph.insert_before(match.merge, node)
            node.outputs[0].type = total.type
            node.outputs[0].shape = ir.Shape(broadcast((total, addend)))
            total = node.outputs[0]
        made[key] = total if same((dims(total) or ())[2], queries) else _over_queries(graph, match, total)
    return made[key]


def _over_queries(graph: ir.Graph, match: Attention, total: ir.Value) -> ir.Value:
    queries = (dims(match.query) or ())[1]
    # What asks the query itself would be one more reader of it.
    inputs = (value for value in graph.inputs if len(found := dims(value) or ()) > 1 and same(found[1], queries))
    length = ir.node("Shape", [next(inputs, match.query)], attributes={"start": 1, "end": 2})
    one = ir.node("Constant", [], attributes={"value_ints": [1]})
    parts = [one.outputs[0], one.outputs[0], length.outputs[0], one.outputs[0]]
    shape = ir.node("Concat", parts, attributes={"axis": 0})
    expand = ir.node("Expand", [total, shape.outputs[0]])
    graph.insert_before(match.merge, [length, one, shape, expand])
    batch, heads, _, keys = broadcast((total,))
    expand.outputs[0].type = total.type
    expand.outputs[0].shape = ir.Shape((batch, heads, queries, keys))
    return expand.outputs[0]
