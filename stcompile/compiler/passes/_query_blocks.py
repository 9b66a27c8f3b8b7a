"""The branch of a graph that makes scores for a block of queries at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import onnx_ir as ir

from stcompile.compiler.passes._query_rows import Need, Rows, TargetShape, Whole, needs, shape_of
from stcompile.compiler.passes.constants import integers
from stcompile.compiler.passes.graph import NoMatch, is_op, operand

# Queries of a block: fewer make each product slow.
_LEAST_QUERIES = 32

_HEADS_SECOND = (0, 2, 1, 3)


class Scope:
    """Nodes of a subgraph in the making; all their names begin with `prefix`."""

    def __init__(self, graph: ir.Graph, prefix: str) -> None:
        self.prefix = prefix
        self._graph = graph
        self._nodes: list[ir.Node] = []
        self._numbers = count()

    def add(
        self, op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any] | None = None
    ) -> ir.Value:
        """Appends a node of one output, and returns that."""
        return self.append(ir.node(op_type, inputs, attributes))

    def append(self, node: ir.Node) -> ir.Value:
        """Appends a node of one output, names it, and returns the output."""
        number = next(self._numbers)
        node.name = f"{self.prefix}_{node.op_type}_{number}"
        node.outputs[0].name = f"{self.prefix}_v{number}"
        self._nodes.append(node)
        return node.outputs[0]

    def integers(self, *values: int) -> ir.Value:
        """A constant of the whole graph, `(len(values),)`."""
        name = "_".join(str(value).replace("-", "minus") for value in values)
        return integers(self._graph, f"int64_{name}", values)

    def closed(self, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> ir.Graph:
        """The subgraph."""
        return ir.Graph(inputs, outputs, nodes=self._nodes, name=self.prefix)


def query_by_query(
    graph: ir.Graph, sink: ir.Node, axis: int, is_square: Callable[[ir.Value], bool], scores: int
) -> ir.Graph:
    """The branch that makes what `sink` makes, for as many queries at a time as have about `scores` scores.

    Args:
        graph: the graph of the sink; it gets the constants.
        sink: a product with the values, an Attention, or anything else that makes rows of queries.
        axis: of its output: the queries.
        is_square: whether a value is made block by block too.
        scores: of a block.

    Raises:
        NoMatch: the queries cannot be kept apart.
    """
    outer, body = Scope(graph, f"{sink.name}_blocks"), Scope(graph, f"{sink.name}_block")
    part = _Part(outer, body, is_square)
    one, fused = outer.integers(1), is_op(sink, "Attention")
    keys = part.heads_first(sink, 1) if fused else part.whole(sink.inputs[1])
    # Of (batch, heads, keys, size), whatever is in front of the last two.
    apart = outer.add("ReduceProd", [outer.add("Shape", [keys], {"start": 0, "end": -2})], {"keepdims": 1})
    length = outer.add("Shape", [keys], {"start": -2, "end": -1})
    fitting = outer.add("Div", [outer.integers(scores), outer.add("Mul", [apart, length])])
    rows = outer.add("Min", [outer.add("Max", [fitting, outer.integers(_LEAST_QUERIES)]), length])
    blocks = outer.add("Div", [outer.add("Sub", [outer.add("Add", [length, rows]), one]), rows])
    # The last block begins where as many rows are left; what it makes a second time is cut out below.
    last = outer.add("Sub", [length, rows])
    number = body.add("Reshape", [part.number, one])
    part.begin(body.add("Min", [body.add("Mul", [number, rows]), last]), rows)
    found = part.loop(blocks, part.attended(sink, keys) if fused else part.copied(sink, axis))
    # (blocks, ..., rows, ...) to (..., blocks * rows, ...).
    order = list(range(1, len(shape_of(sink.outputs[0])) + 1))
    order.insert(axis, 0)
    beside = outer.add("Transpose", [found], {"perm": order})
    total, before = outer.add("Mul", [blocks, rows]), outer.add("Mul", [outer.add("Sub", [blocks, one]), rows])
    sizes = [
        outer.add("Shape", [beside], {"start": 0, "end": axis}),
        total,
        outer.add("Shape", [beside], {"start": axis + 2}),
    ]
    joined = outer.add("Reshape", [beside, outer.add("Concat", sizes, {"axis": 0})])
    rest = outer.add("Sub", [total, outer.add("Sub", [length, before])])
    pieces = [
        outer.add("Slice", [joined, start, end, outer.integers(axis)])
        for start, end in ((outer.integers(0), before), (rest, total))
    ]
    return part.closed(outer.add("Concat", pieces, {"axis": axis}), sink.outputs[0])


def text_by_text(graph: ir.Graph, sink: ir.Node, is_square: Callable[[ir.Value], bool]) -> ir.Graph:
    """The branch for the one row `(batch, 1, keys)` that a GatherND takes of each text's `(batch, queries, keys)`.

    Raises:
        NoMatch: the queries cannot be kept apart, or the GatherND takes something else.
    """
    taken, position = operand(sink, 0), operand(sink, 1)
    if (
        taken is None
        or len(shape_of(taken)) != 3
        or len(shape_of(position)) != 3
        or shape_of(position)[1:] != (1, 1)
        or sink.attributes.get_int("batch_dims", 0) != 1
    ):
        raise NoMatch("of what grows with the square of the length, a row is taken in an unknown way")
    outer, body = Scope(graph, f"{sink.name}_texts"), Scope(graph, f"{sink.name}_text")
    part = _Part(outer, body, is_square)
    one = outer.integers(1)
    text = body.add("Reshape", [part.number, one])
    part.begin(body.add("Reshape", [body.add("Gather", [position, text], {"axis": 0}), one]), one)
    row = body.add("Gather", [part.rows(taken, 1), text], {"axis": 0})
    texts = outer.add("Shape", [position], {"start": 0, "end": 1})
    return part.closed(outer.add("Squeeze", [part.loop(texts, row), one]), sink.outputs[0])


class _Part:
    """A Loop over parts of the queries: the values of one part, made in its body.

    Attributes:
        number: of the part, a scalar.
    """

    def __init__(self, outer: Scope, body: Scope, is_square: Callable[[ir.Value], bool]) -> None:
        self._outer, self._body = outer, body
        self._is_square = is_square
        self._whole: dict[ir.Value, ir.Value] = {}
        self._rows: dict[tuple[ir.Value, int], ir.Value] = {}
        self.number = ir.val(f"{body.prefix}_number", ir.DataType.INT64, [])
        self._more = ir.val(f"{body.prefix}_more", ir.DataType.BOOL, [])

    def begin(self, start: ir.Value, count: ir.Value) -> None:
        """Says which rows: `count` from `start` on, `(1,)` each."""
        self._start, self._count = start, count
        self._end = self._body.add("Add", [start, count])

    def whole(self, value: ir.Value | None) -> ir.Value:
        """A value from outside the loop, in float32 where it is float16."""
        assert value is not None
        if self._is_square(value):
            raise NoMatch("what makes the scores of some queries needs those of all")
        if value not in self._whole:
            half = value.dtype == ir.DataType.FLOAT16
            self._whole[value] = self._outer.add("Cast", [value], {"to": ir.DataType.FLOAT}) if half else value
        return self._whole[value]

    def rows(self, value: ir.Value, axis: int) -> ir.Value:
        """This part's rows of a value."""
        key = (value, axis)
        if key not in self._rows:
            node = value.producer()
            if self._is_square(value) and node is not None:
                if value is not node.outputs[0]:
                    raise NoMatch(f"what grows with the square of the length is another output of {node.op_type}")
                self._rows[key] = self.copied(node, axis)
            else:  # given, or not as large
                inputs = [
                    value if node is None else self.whole(value),
                    self._start,
                    self._end,
                    self._outer.integers(axis),
                ]
                self._rows[key] = self._body.add("Slice", inputs)
        return self._rows[key]

    def copied(self, node: ir.Node, axis: int) -> ir.Value:
        """A node of the graph, for this part's rows of its output."""
        wanted = zip(node.inputs, needs(node, axis), strict=True)
        inputs = [None if value is None else self.needed(value, need) for value, need in wanted]
        attributes = list(node.attributes.values())
        if is_op(node, "Cast") and node.attributes.get_int("to") == ir.DataType.FLOAT16:
            attributes = [ir.AttrInt64("to", ir.DataType.FLOAT)]
        return self._body.append(ir.Node(node.domain, node.op_type, inputs, attributes))

    def heads_first(self, attention: ir.Node, index: int) -> ir.Value:
        """Keys or values of an Attention as (batch, heads, keys, size), so that no block does that again."""
        return _heads_first(self._outer, self.whole(attention.inputs[index]), attention, "kv_num_heads")

    def attended(self, attention: ir.Node, keys: ir.Value) -> ir.Value:
        """An Attention for this part's queries, (batch, rows, hidden)."""
        body, (query, _, _, *mask) = self._body, needs(attention, 1)
        queries = self.needed(attention.inputs[0], query)
        inputs = [_heads_first(body, queries, attention, "q_num_heads"), keys, self.heads_first(attention, 2)]
        inputs += [self.needed(attention.inputs[3], need) for need in mask]
        scale = {"scale": attention.attributes["scale"]} if "scale" in attention.attributes else {}
        found = body.add("Transpose", [body.add("Attention", inputs, scale)], {"perm": _HEADS_SECOND})
        return body.add("Reshape", [found, self._outer.integers(0, 0, -1)])

    def loop(self, times: ir.Value, made: ir.Value) -> ir.Value:
        """What all parts make, along a new first axis."""
        outer, body = self._outer, self._body
        more = body.add("Identity", [self._more])
        graph = body.closed([self.number, self._more], [more, made])
        trips = outer.add("Squeeze", [times])
        # It goes on as long as there are parts: a file has no room for an input that is left out at the end.
        always = outer.add("Cast", [trips], {"to": ir.DataType.BOOL})
        return outer.add("Loop", [trips, always], {"body": graph})

    def closed(self, result: ir.Value, like: ir.Value) -> ir.Graph:
        """The branch, whose output has the type of `like`."""
        if like.dtype == ir.DataType.FLOAT16:
            result = self._outer.add("Cast", [result], {"to": ir.DataType.FLOAT16})
        result.type, result.shape = like.type, like.shape
        return self._outer.closed([], [result])

    def needed(self, value: ir.Value | None, need: Need) -> ir.Value:
        assert value is not None
        if isinstance(need, Rows):
            return self.rows(value, need.axis)
        if isinstance(need, Whole):
            return self.whole(value)
        return self._target_shape(value, need)

    def _target_shape(self, value: ir.Value, need: TargetShape) -> ir.Value:
        shape = value.producer()
        if shape is not None and is_op(shape, "Shape"):
            asked = shape.inputs[0]
            if asked is not None and self._is_square(asked):
                # The shape of something of these rows.
                if shape.attributes.get_int("start", 0) or "end" in shape.attributes:
                    raise NoMatch("a part of a shape that grows with the square of the length is asked for")
                return self._body.add("Shape", [self.rows(asked, need.axis)])
        outer, body, axis = self._outer, self._body, need.axis
        before = body.add("Slice", [value, outer.integers(0), outer.integers(axis)])
        after = body.add("Slice", [value, outer.integers(axis + 1), outer.integers(2**62)])
        middle = self._count if need.length is None else outer.integers(need.length)
        return body.add("Concat", [before, middle, after], {"axis": 0})


def _heads_first(scope: Scope, value: ir.Value, attention: ir.Node, heads: str) -> ir.Value:
    split = scope.integers(0, 0, attention.attributes.get_int(heads, 0), -1)
    return scope.add("Transpose", [scope.add("Reshape", [value, split])], {"perm": _HEADS_SECOND})
