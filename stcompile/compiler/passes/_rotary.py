"""Finds rotary position embeddings in front of an attention.

The pattern is x cos + turn(x) sin as `transformers` writes it. In halves, `turn` puts the negated second half of a
head's numbers before the first, and cos and sin repeat their first half; interleaved, it puts each number's right
neighbour, negated, before it, and cos and sin have each number twice. Where only the first numbers of a head turn, the
others are cut off before and put behind again.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from stcompile.compiler.passes._attention import Rotary
from stcompile.compiler.passes.graph import NoMatch, constant, dims, is_op, operand, scalar, slice_of


@dataclass(frozen=True)
class _Turned:
    """What is turned: all its numbers, `width` of them, and the nodes that cut it in two."""

    x: ir.Value
    width: int
    cuts: tuple[ir.Node, ir.Node]
    interleaved: bool


@dataclass(frozen=True)
class _Rotated:
    """x cos + turn(x) sin."""

    turned: _Turned
    cos: ir.Value
    sin: ir.Value


def rotary_of(node: ir.Node, which: str, heads: int, length: int, numbers: int) -> tuple[ir.Value, Rotary]:
    """What is turned, and how, by the node that ends the pattern.

    Args:
        node: makes `which` heads.
        heads: the axis of heads in what the node makes.
        length: the axis of tokens.
        numbers: the axis of a head's numbers.

    Raises:
        NoMatch: they are not turned, or in another way.
    """
    shape = dims(node.outputs[0]) or ()
    width = shape[-1] if len(shape) == 4 and numbers == 3 else None
    if not isinstance(width, int):
        raise NoMatch(f"{node.op_type} stands between the {which} heads and the product")
    x, rotated = _whole(node, which) if is_op(node, "Add") else _first_numbers(node, which)
    turned = rotated.turned
    for table in (rotated.cos, rotated.sin):
        found = dims(table) or ()
        if len(found) != 4 or found[heads] != 1 or found[length] != shape[length] or found[3] != turned.width:
            raise NoMatch(
                f"the angles that turn the {which} heads are not one for each position, the same for all heads"
            )
        if found[0] not in (1, shape[0]) or not _repeats(table, interleaved=turned.interleaved):
            both = "for both of each pair" if turned.interleaved else "in both halves"
            raise NoMatch(f"the angles that turn the {which} heads are not known to be the same {both}")
    return x, Rotary(rotated.cos, rotated.sin, turned.width // 2, turned.interleaved)


def _whole(add: ir.Node, which: str) -> tuple[ir.Value, _Rotated]:
    kind = f"rotary position embeddings turn the {which} heads in a way that is not known"
    products = [value.producer() for value in add.inputs if value is not None]
    multiplied = [node for node in products if node is not None and is_op(node, "Mul")]
    if len(multiplied) != 2:
        raise NoMatch(f"Add stands between the {which} heads and the product")
    for straight, crossed in (multiplied, multiplied[::-1]):
        for turn, sin in (crossed.inputs, crossed.inputs[::-1]):
            turned = _turned_halves(turn) or _turned_neighbours(turn)
            if turned is None or turned.x not in straight.inputs:
                continue
            cos = straight.inputs[1 if straight.inputs[0] is turned.x else 0]
            if cos is None or sin is None or {use.node for use in turned.x.uses()} != {straight, *turned.cuts}:
                raise NoMatch(kind)
            return turned.x, _Rotated(turned, cos, sin)
    raise NoMatch(kind)


def _turned_halves(value: ir.Value | None) -> _Turned | None:
    """x, where the value is its second half, negated, and its first."""
    node = None if value is None else value.producer()
    if node is None or not is_op(node, "Concat") or len(node.inputs) != 2 or not _is_last(node):
        return None
    negated, first = (None if entry is None else entry.producer() for entry in node.inputs)
    found = _cut_in_two(negated, first, 1)
    if found is None:
        return None
    turned, high, low = found
    half = turned.width // 2
    halves = low == (-1, 0, half) and high[:2] == (-1, half) and high[2] >= turned.width
    return turned if halves else None


def _turned_neighbours(value: ir.Value | None) -> _Turned | None:
    """x, where the value has the second of each two neighbours, negated, before the first."""
    reshape = None if value is None else value.producer()
    stacked = None if reshape is None or not is_op(reshape, "Reshape") else reshape.inputs[0]
    concat = None if stacked is None else stacked.producer()
    if value is None or concat is None or not is_op(concat, "Concat") or len(concat.inputs) != 2:
        return None
    stretched = [_inside_last(entry) for entry in concat.inputs] if _is_last(concat) else [None, None]
    negated, first = (None if entry is None else entry.producer() for entry in stretched)
    found = _cut_in_two(negated, first, 2)
    if found is None:
        return None
    turned, odd, even = found
    neighbours = even[:2] == (-1, 0) and odd[:2] == (-1, 1) and min(even[2], odd[2]) >= turned.width
    return turned if neighbours and dims(value) == dims(turned.x) else None


_Cut = tuple[int, int, int]


def _cut_in_two(negated: ir.Node | None, first: ir.Node | None, steps: int) -> tuple[_Turned, _Cut, _Cut] | None:
    """Of what two Slices in such steps cut, where the one was negated: that, and how each cuts it."""
    inner = operand(negated, 0) if negated is not None and is_op(negated, "Neg") else None
    second = None if inner is None else inner.producer()
    low, high = (None if part is None else slice_of(part, steps) for part in (first, second))
    if first is None or second is None or low is None or high is None:
        return None
    x = first.inputs[0]
    width = None if x is None else (dims(x) or (None,))[-1]
    if x is None or second.inputs[0] is not x or not isinstance(width, int) or width % 2:
        return None
    return _Turned(x, width, (first, second), steps == 2), high, low


def _inside_last(value: ir.Value | None) -> ir.Value | None:
    """What got a new last axis."""
    node = None if value is None else value.producer()
    axes = None if node is None or not is_op(node, "Unsqueeze") else constant(operand(node, 1))
    if node is None or axes is None or axes.reshape(-1).tolist() not in ([-1], [len(dims(node.outputs[0]) or ()) - 1]):
        return None
    return node.inputs[0]


def _first_numbers(concat: ir.Node, which: str) -> tuple[ir.Value, _Rotated]:
    """Of a Concat of turned numbers with those that stay."""
    left = f"Concat stands between the {which} heads and the product"
    if len(concat.inputs) != 2 or not _is_last(concat):
        raise NoMatch(left)
    add, rest = (None if value is None else value.producer() for value in concat.inputs)
    if add is None or rest is None or not is_op(add, "Add"):
        raise NoMatch(left)
    part, rotated = _whole(add, which)
    width = rotated.turned.width
    first = part.producer()
    cuts = [None if node is None else slice_of(node) for node in (first, rest)]
    x = None if first is None else first.inputs[0]
    if (
        x is None
        or rest.inputs[0] is not x
        or cuts[0] != (-1, 0, width)
        or cuts[1] is None
        or cuts[1][:2] != (-1, width)
    ):
        raise NoMatch(left)
    if {use.node for use in x.uses()} != {first, rest}:
        raise NoMatch(f"the {which} heads are used elsewhere too")
    return x, rotated


def _is_last(concat: ir.Node) -> bool:
    return concat.attributes.get_int("axis", 0) in (-1, len(dims(concat.outputs[0]) or ()) - 1)


def _repeats(table: ir.Value, *, interleaved: bool) -> bool:
    """Whether both halves of the last axis, or both of each two neighbours, are the same: made of the same."""
    value: ir.Value | None = table
    while value is not None and (node := value.producer()) is not None:
        if is_op(node, "Concat"):
            same = len(node.inputs) == 2 and node.inputs[0] is node.inputs[1] and _is_last(node)
            return same and not interleaved
        if is_op(node, "Reshape"):
            return interleaved and _doubles(node)
        if is_op(node, "Mul"):
            numbers = [entry for entry in node.inputs if scalar(entry) is None]
            value = numbers[0] if len(numbers) == 1 else None
        elif is_op(node, "Unsqueeze", "Cos", "Sin", "Cast"):
            # An Unsqueeze that made the last axis would leave it at 1, and 1 is no two halves.
            value = node.inputs[0]
        else:
            return False
    return False


def _doubles(reshape: ir.Node) -> bool:
    """Whether each number stands twice, side by side: (..., n, 2) of the same two as (..., 2 n)."""
    pairs = reshape.inputs[0]
    node = None if pairs is None else pairs.producer()
    few, many = dims(pairs) if pairs is not None else None, dims(reshape.outputs[0])
    if node is None or not few or not many or few[-1] != 2 or not isinstance(few[-2], int) or many[-1] != 2 * few[-2]:
        return False
    if is_op(node, "Concat"):
        return len(node.inputs) == 2 and node.inputs[0] is node.inputs[1] and _is_last(node)
    inner = operand(node, 0)
    return is_op(node, "Expand") and inner is not None and (dims(inner) or (None,))[-1] == 1
