"""Finds eager multi-head attention, for every pass that replaces it.

The pattern is scaled dot-product attention as `transformers` writes it with
`attn_implementation="eager"` (Vaswani et al., 2017, section 3.2):

    softmax(scale * split(q) @ split(k).T + mask [+ bias]) @ split(v)

where scores may be bent below a soft cap before anything is added to them, and where `split` is Reshape from (batch,
length, heads * size) to (batch, length, heads, size) and a Transpose that puts the heads second, and the result is
merged back the same way. Heads of query and key may be normalized and turned by their positions, those of key and value
repeated for several heads of the query. A match proves that nothing else happens to the scores or the heads: what
cannot be proved is refused in a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from stcompile.compiler.passes._attention import Attention, HeadNorm, Rotary, broadcast
from stcompile.compiler.passes._rotary import rotary_of
from stcompile.compiler.passes.graph import (
    Dim,
    NoMatch,
    constant,
    dims,
    is_op,
    matches,
    only_user,
    operand,
    reader_of,
    same,
    scalar,
)
from stcompile.compiler.passes.rms_norm import CONTRIBUTED_NORM, STANDARD_NORM

_HEADS_SECOND = (0, 2, 1, 3)
_HEADS_SECOND_SIZE_THIRD = (0, 2, 3, 1)


@dataclass(frozen=True)
class _Heads:
    source: ir.Value
    batch: Dim
    length: Dim
    heads: int
    size: int
    scale: float
    norm: HeadNorm | None
    rotary: Rotary | None


def find_attention(graph: ir.Graph, refusals: list[str]) -> Iterator[Attention]:
    """Every attention of `graph` in its order, found one by one, so that each may be rewritten at once.

    Subgraphs are left alone. `refusals` collects, in sentences, why near misses are none.
    """
    return matches(graph, "Softmax", _match, refusals)


def _match(softmax: ir.Node) -> Attention:
    probabilities = softmax.outputs[0]
    axis = softmax.attributes.get_int("axis", -1)
    if axis not in (-1, 3) or len(dims(probabilities) or ()) != 4:
        raise NoMatch("a softmax is not over the last axis of a (batch, heads, queries, keys) tensor")
    product, scale, soft_cap, addends = _score_path(softmax)
    left, right = _pair(product)
    query = _split(left, "query", _HEADS_SECOND)
    key = _split(right, "key", _HEADS_SECOND_SIZE_THIRD)

    weigh = _reader(probabilities, "MatMul", "softmax")
    if operand(weigh, 0) is not probabilities:
        raise NoMatch("the softmax is multiplied from the left: it does not weigh values")
    value = _split(_pair(weigh)[1], "value", _HEADS_SECOND)
    back = _reader(weigh.outputs[0], "Transpose", "weighed values")
    if tuple(back.attributes.get_ints("perm", ())) != _HEADS_SECOND:
        raise NoMatch("the heads are not put back behind the length axis")
    merge = _reader(back.outputs[0], "Reshape", "weighed values")

    scale *= query.scale * key.scale
    if value.scale != 1.0:
        raise NoMatch("the values are scaled between their heads and the product")
    if value.norm is not None or value.rotary is not None:
        raise NoMatch("the values are normalized or turned between their heads and the product")
    if query.rotary != key.rotary:
        raise NoMatch("query and key are turned by different rotary position embeddings")
    if not scale > 0 or (soft_cap is not None and not soft_cap > 0):
        raise NoMatch("the scale of the scores is not positive")
    if query.size != key.size or key.heads != value.heads or query.heads % key.heads:
        raise NoMatch("heads of query, key and value do not go together")
    if not (same(query.batch, key.batch) and same(key.batch, value.batch) and same(key.length, value.length)):
        raise NoMatch("query, key and value are not known to share their batch and their length")
    merged = dims(merge.outputs[0])
    expected = (query.batch, query.length, query.heads * value.size)
    if merged is None or len(merged) != 3 or not all(map(same, merged, expected)):
        raise NoMatch("the heads are not merged back to (batch, length, hidden)")
    _check_addends(addends, query, key)
    return Attention(
        query.source,
        key.source,
        value.source,
        addends,
        scale,
        soft_cap,
        query.heads,
        key.heads,
        query.size,
        value.size,
        query.norm,
        key.norm,
        query.rotary,
        merge,
    )


def _score_path(softmax: ir.Node) -> tuple[ir.Node, float, float | None, tuple[ir.Value, ...]]:
    """The product that makes the scores, their scale, their soft cap, and what is added to them."""
    value = softmax.inputs[0]
    scale = 1.0
    soft_cap: float | None = None
    addends: list[ir.Value] = []
    while True:
        node = None if value is None else value.producer()
        if value is None or node is None or only_user(value) is None:
            raise NoMatch("scores on the way to the softmax are used elsewhere too, or are fed from outside")
        if is_op(node, "MatMul"):
            # Behind the tangent the cap is what multiplies it; before, the scores' scale is in shares of the cap.
            return node, scale if soft_cap is None else scale * soft_cap, soft_cap, tuple(reversed(addends))
        if is_op(node, "Add"):
            if soft_cap is not None:
                raise NoMatch("the mask is added before a soft cap bends the scores")
            if scale != 1.0:
                raise NoMatch("the scores are scaled after the mask is added")
            left, right = _pair(node)
            if _is_scores(left) and _is_scores(right):
                raise NoMatch("several products are added into the scores (disentangled attention)")
            # without a product on either side, the left one leads to what stands in its way
            value, addend = (right, left) if _is_scores(right) else (left, right)
            addends.append(addend)
        elif is_op(node, "Mul", "Div"):
            value, factor = _unscale(node)
            scale *= factor
        elif is_op(node, "Tanh") and soft_cap is None:
            value, soft_cap, scale = node.inputs[0], scale, 1.0
        else:
            raise NoMatch(f"{node.op_type} stands between the scores and the softmax")


def _is_scores(value: ir.Value | None) -> bool:
    """Whether a product reaches `value` through nothing but sums, scales and a soft cap."""
    node = None if value is None else value.producer()
    if node is None or is_op(node, "MatMul"):
        return node is not None
    return is_op(node, "Add", "Mul", "Div", "Tanh") and any(_is_scores(entry) for entry in node.inputs)


def _unscale(node: ir.Node) -> tuple[ir.Value, float]:
    """What a Mul or Div by one constant number scales, and the factor."""
    left, right = _pair(node)
    number = scalar(right)
    if number is None and node.op_type == "Mul":
        left, number = right, scalar(left)
    if number is None or number == 0:
        raise NoMatch("a scale is computed in the graph: only a constant number can be an attribute")
    return left, number if node.op_type == "Mul" else 1.0 / number


def _split(value: ir.Value, which: str, perm: tuple[int, ...]) -> _Heads:
    """Walk back from a 4-D operand of a product to the 3-D tensor whose heads it holds."""
    order: tuple[int, ...] = (0, 1, 2, 3)
    numbers = perm.index(3)  # the axis of the product along which a head's numbers lie
    scale = 1.0
    norm: HeadNorm | None = None
    rotary: Rotary | None = None
    turned: ir.Value | None = None  # read by what turns it, and nothing else
    while True:
        node = value.producer()
        if node is None or (value is not turned and only_user(value) is None):
            raise NoMatch(f"the {which} heads are used elsewhere too, or fed from outside the graph")
        if is_op(node, "Transpose") and len(node.attributes.get_ints("perm", ())) == 4:
            inner = node.attributes.get_ints("perm")
            order = tuple(inner[axis] for axis in order)
            value = _pair(node)[0]
        elif norm is None and is_op(node, "Mul", "Div") and any(scalar(entry) is not None for entry in node.inputs):
            value, factor = _unscale(node)
            scale *= factor
        elif is_op(node, "Reshape") and is_op(_pair(node)[0].producer(), "Expand"):
            value = _repeated(node, which, order, perm)
        elif is_op(node, "Reshape"):
            break
        elif is_op(node, STANDARD_NORM, CONTRIBUTED_NORM):
            norm, value = _normalized(node, which, norm, order[numbers] == 3)
        elif rotary is None and norm is None and is_op(node, "Add", "Concat"):
            value, rotary = rotary_of(node, which, _axis_of(order, perm, 2), _axis_of(order, perm, 1), order[numbers])
            turned = value
        else:
            turned_too = "" if rotary is None else ", which rotary position embeddings turn,"
            raise NoMatch(f"{node.op_type} stands between the {which} heads{turned_too} and the product")
    source = _pair(node)[0]
    flat, split = dims(source), dims(value)
    if order != perm or flat is None or split is None or len(flat) != 3 or len(split) != 4:
        raise NoMatch(f"the {which} heads are not split from (batch, length, hidden)")
    batch, length, heads, size = split
    if not (same(batch, flat[0]) and same(length, flat[1]) and isinstance(heads, int) and isinstance(size, int)):
        raise NoMatch(f"the shape of the {which} heads is not known")
    return _Heads(source, batch, length, heads, size, scale, norm, rotary)


def _axis_of(order: tuple[int, ...], perm: tuple[int, ...], flat: int) -> int:
    """Where the value that the walk has come to has the axis that is `flat` of (batch, length, heads, size)."""
    return order[perm.index(flat)]


def _repeated(reshape: ir.Node, which: str, order: tuple[int, ...], perm: tuple[int, ...]) -> ir.Value:
    """What is repeated, each head for its neighbours: (batch, heads, length, size), a new third axis, both made one."""
    expand = _pair(reshape)[0].producer()
    unsqueeze = None if expand is None else _pair(expand)[0].producer()
    if expand is None or unsqueeze is None or not is_op(unsqueeze, "Unsqueeze"):
        raise NoMatch(f"the {which} heads are repeated in a way that is not known")
    axes, inner = constant(operand(unsqueeze, 1)), _pair(unsqueeze)[0]
    few, wide, many = dims(inner) or (), dims(expand.outputs[0]) or (), dims(reshape.outputs[0]) or ()
    is_second = _axis_of(order, perm, 2) == 1
    if (
        not is_second
        or axes is None
        or axes.reshape(-1).tolist() != [2]
        or (len(few), len(wide), len(many)) != (4, 5, 4)
    ):
        raise NoMatch(f"the {which} heads are repeated in a way that is not known")
    groups, times = few[1], wide[2]
    if not isinstance(groups, int) or not isinstance(times, int) or many[1] != groups * times or wide[1] != groups:
        raise NoMatch(f"the {which} heads are repeated in a way that is not known")
    if only_user(inner) is None or only_user(unsqueeze.outputs[0]) is None:
        raise NoMatch(f"the {which} heads are used elsewhere too")
    return inner


def _normalized(node: ir.Node, which: str, norm: HeadNorm | None, is_last: bool) -> tuple[HeadNorm, ir.Value]:
    x, gain = _pair(node)
    width = constant(gain)
    if norm is not None or not is_last or width is None or width.ndim != 1:
        raise NoMatch(f"the {which} heads are normalized in a way that is not known")
    if node.attributes.get_int("axis", -1) not in (-1, 3):
        raise NoMatch(f"the {which} heads are normalized over more than their own numbers")
    return HeadNorm(gain, node.attributes.get_float("epsilon", 1e-5)), x


def _pair(node: ir.Node) -> tuple[ir.Value, ir.Value]:
    """The first and the last input; the same one for a node of one input."""
    left, right = node.inputs[0], node.inputs[-1]
    if left is None or right is None:
        raise NoMatch(f"{node.op_type} lacks an input")
    return left, right


def _reader(value: ir.Value, op_type: str, what: str) -> ir.Node:
    node = reader_of(value, f"the {what}")
    if not is_op(node, op_type):
        raise NoMatch(f"{node.op_type} follows the {what} where {op_type} was expected")
    return node


def _check_addends(addends: tuple[ir.Value, ...], query: _Heads, key: _Heads) -> None:
    if not addends:
        return
    if {addend.dtype for addend in addends} - {ir.DataType.FLOAT, ir.DataType.FLOAT16}:
        raise NoMatch("what is added to the scores is not known to be float32 or float16")
    batch, heads, queries, keys = broadcast(addends)
    if not (
        (batch == 1 or same(batch, query.batch))
        and heads in (1, query.heads)
        and (queries == 1 or same(queries, query.length))
        and same(keys, key.length)
    ):
        raise NoMatch("what is added to the scores is not (batch or 1, heads or 1, queries or 1, keys)")
