"""What is done to the heads of an attention before the scores, in operators between 3-D tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import onnx_ir as ir

from stcompile.compiler.passes._attention import Attention, HeadNorm, Rotary
from stcompile.compiler.passes.constants import integers
from stcompile.compiler.passes.graph import MICROSOFT, dims, same
from stcompile.compiler.passes.rms_norm import CONTRIBUTED_NORM, STANDARD_NORM


class Dialect(NamedTuple):
    """Whose operators say it: those of the standard want opset 23, those of ONNX Runtime none."""

    norm: str
    rotary_domain: str


STANDARD = Dialect(STANDARD_NORM, "")
CONTRIBUTED = Dialect(CONTRIBUTED_NORM, MICROSOFT)


def heads_of(
    graph: ir.Graph, match: Attention, angles: dict[ir.Value, ir.Value], dialect: Dialect = STANDARD
) -> list[ir.Value]:
    """Query, key and value as a fused attention reads them, (batch, length, heads * size) each.

    The nodes stand before `match.merge`.
    `angles` keeps what is made of cos and sin, so that the layers of a graph share it. In the contributed dialect they
    must be the same for all texts: `(1, ...)`.
    """
    writer = _Writer(graph, match, angles, dialect)
    query = writer.turned(writer.normalized(match.query, match.heads, match.query_norm), match.heads)
    key = writer.turned(writer.normalized(match.key, match.key_heads, match.key_norm), match.key_heads)
    return [query, writer.repeated(key, match.size), writer.repeated(match.value, match.value_size)]


class _Writer:
    def __init__(self, graph: ir.Graph, match: Attention, angles: dict[ir.Value, ir.Value], dialect: Dialect) -> None:
        self._graph = graph
        self._match = match
        self._angles = angles
        self._dialect = dialect
        self._batch, self._length = (dims(match.query) or ())[:2]

    def normalized(self, x: ir.Value, heads: int, norm: HeadNorm | None) -> ir.Value:
        if norm is None:
            return x
        size = self._match.size
        apart = self._reshaped(x, heads, size)
        normal = self._node(self._dialect.norm, [apart, norm.gain], x, (heads, size), axis=-1, epsilon=norm.epsilon)
        return self._reshaped(normal, heads * size)

    def turned(self, x: ir.Value, heads: int) -> ir.Value:
        rotary = self._match.rotary
        if rotary is None:
            return x
        tables = [self._angle(table, rotary) for table in (rotary.cos, rotary.sin)]
        some = {} if 2 * rotary.half == self._match.size else {"rotary_embedding_dim": 2 * rotary.half}
        some |= {"interleaved": 1} if rotary.interleaved else {}
        domain, sizes = self._dialect.rotary_domain, (heads * self._match.size,)
        # A single position is the first token's, and the others' follow.
        first = [integers(self._graph, "from_0", [0])] if domain else []
        return self._node("RotaryEmbedding", [x, *first, *tables], x, sizes, domain=domain, num_heads=heads, **some)

    def repeated(self, x: ir.Value, size: int) -> ir.Value:
        """Each head as often as heads of the query share it."""
        heads, few = self._match.heads, self._match.key_heads
        if heads == few:
            return x
        apart = self._reshaped(x, few, 1, size)
        times = integers(self._graph, f"repeat_{heads // few}", [1, 1, 1, heads // few, 1])
        wide = self._node("Expand", [apart, times], x, (few, heads // few, size))
        return self._reshaped(wide, heads * size)

    def _reshaped(self, x: ir.Value, *sizes: int) -> ir.Value:
        shape = integers(self._graph, f"heads_{'x'.join(map(str, sizes))}", [0, 0, *sizes])
        return self._node("Reshape", [x, shape], x, sizes)

    def _angle(self, table: ir.Value, rotary: Rotary) -> ir.Value:
        """Each number of cos or sin once, for each text `(batch, length, half)`, or contributed `(length, half)`."""
        if table not in self._angles:
            once = self._once(table, rotary)
            if self._dialect is CONTRIBUTED:
                flat = self._node("Squeeze", [once, integers(self._graph, "axis_0", [0])], table, ())
                flat.shape = ir.Shape((self._length, rotary.half))
                self._angles[table] = flat
            else:
                texts = self._node("Shape", [self._with_batch()], None, None, start=0, end=1)
                ones = integers(self._graph, "one_one", [1, 1])
                shape = self._node("Concat", [texts, ones], None, None, axis=0)
                self._angles[table] = self._node("Expand", [once, shape], table, (rotary.half,))
        return self._angles[table]

    def _once(self, table: ir.Value, rotary: Rotary) -> ir.Value:
        """Each number of cos or sin once, `(batch or 1, length, half)`."""
        axis, half = 1 if (dims(table) or ())[1] == 1 else 2, rotary.half
        flat = self._node(
            "Squeeze", [table, integers(self._graph, f"axis_{axis}", [axis])], table, (2 * half,), batch=1
        )
        cut = [integers(self._graph, f"from_{end}", [end]) for end in (0, 2 * half if rotary.interleaved else half)]
        cut += [integers(self._graph, "axis_2", [2])]
        cut += [integers(self._graph, "every_2", [2])] if rotary.interleaved else []
        return self._node("Slice", [flat, *cut], table, (half,), batch=1)

    def _with_batch(self) -> ir.Value:
        """An input of the graph that has as many texts: what asks the query itself would be one more reader of it."""
        inputs = (value for value in self._graph.inputs if same((dims(value) or (None,))[0], self._batch))
        return next(inputs, self._match.query)

    def _node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        like: ir.Value | None,
        sizes: tuple[int, ...] | None,
        batch: int | None = None,
        domain: str = "",
        **attributes: int | float,
    ) -> ir.Value:
        node = ir.node(op_type, inputs, attributes, domain=domain)
        self._graph.insert_before(self._match.merge, node)
        made = node.outputs[0]
        if like is None or sizes is None:
            made.dtype = ir.DataType.INT64
        else:
            made.type = like.type
            made.shape = ir.Shape((self._batch if batch is None else batch, self._length, *sizes))
        return made
