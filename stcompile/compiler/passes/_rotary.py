"""Finds rotary position embeddings in front of an attention.

The pattern is x cos + turn(x) sin as `transformers` writes it, where `turn` puts the negated second half of a head's
numbers before the first; cos and sin repeat their first half. Where only the first numbers of a head turn, the others
are cut off before and put behind again.
"""

from __future__ import annotations

import onnx_ir as ir

from stcompile.compiler.passes._attention import Rotary
from stcompile.compiler.passes.graph import NoMatch, dims, is_op, operand, scalar, slice_of


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
    x, cos, sin, turned = _whole(node, which) if is_op(node, "Add") else _first_numbers(node, which)
    for table in (cos, sin):
        found = dims(table) or ()
        if len(found) != 4 or found[heads] != 1 or found[length] != shape[length] or found[3] != turned:
            raise NoMatch(
                f"the angles that turn the {which} heads are not one for each position, the same for all heads"
            )
        if found[0] not in (1, shape[0]) or not _repeats(table):
            raise NoMatch(f"the angles that turn the {which} heads are not known to be the same in both halves")
    return x, Rotary(cos, sin, turned // 2)


def _whole(add: ir.Node, which: str) -> tuple[ir.Value, ir.Value, ir.Value, int]:
    kind = f"rotary position embeddings turn the {which} heads in a way that is not known"
    products = [value.producer() for value in add.inputs if value is not None]
    multiplied = [node for node in products if node is not None and is_op(node, "Mul")]
    if len(multiplied) != 2:
        raise NoMatch(f"Add stands between the {which} heads and the product")
    for straight, crossed in (multiplied, multiplied[::-1]):
        for turn, sin in (crossed.inputs, crossed.inputs[::-1]):
            x = _turned(turn)
            if x is None or x not in straight.inputs:
                continue
            cos = straight.inputs[1 if straight.inputs[0] is x else 0]
            width = (dims(x) or (None,))[-1]
            own = {straight, *(use.node for use in x.uses() if slice_of(use.node) is not None)}
            if (
                cos is None
                or sin is None
                or not isinstance(width, int)
                or {use.node for use in x.uses()} != own
                or len(own) != 3
            ):
                raise NoMatch(kind)
            return x, cos, sin, width
    raise NoMatch(kind)


def _turned(value: ir.Value | None) -> ir.Value | None:
    """x, where the value is its second half, negated, and its first."""
    node = None if value is None else value.producer()
    if node is None or not is_op(node, "Concat") or len(node.inputs) != 2 or not _is_last(node):
        return None
    negated, first = (None if entry is None else entry.producer() for entry in node.inputs)
    inner = operand(negated, 0) if negated is not None and is_op(negated, "Neg") else None
    second = None if inner is None else inner.producer()
    low, high = (None if part is None else slice_of(part) for part in (first, second))
    if first is None or second is None or low is None or high is None:
        return None
    x = first.inputs[0]
    width = None if x is None else (dims(x) or (None,))[-1]
    if x is None or second.inputs[0] is not x or not isinstance(width, int):
        return None
    halves = low == (-1, 0, width // 2) and high[:2] == (-1, width // 2) and high[2] >= width and width % 2 == 0
    return x if halves else None


def _first_numbers(concat: ir.Node, which: str) -> tuple[ir.Value, ir.Value, ir.Value, int]:
    """Of a Concat of turned numbers with those that stay."""
    left = f"Concat stands between the {which} heads and the product"
    if len(concat.inputs) != 2 or not _is_last(concat):
        raise NoMatch(left)
    add, rest = (None if value is None else value.producer() for value in concat.inputs)
    if add is None or rest is None or not is_op(add, "Add"):
        raise NoMatch(left)
    part, cos, sin, width = _whole(add, which)
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
    return x, cos, sin, width


def _is_last(concat: ir.Node) -> bool:
    return concat.attributes.get_int("axis", 0) in (-1, len(dims(concat.outputs[0]) or ()) - 1)


def _repeats(table: ir.Value) -> bool:
    """Whether both halves of the last axis are the same, because they are made of the same."""
    value: ir.Value | None = table
    while value is not None and (node := value.producer()) is not None:
        if is_op(node, "Concat"):
            return len(node.inputs) == 2 and node.inputs[0] is node.inputs[1] and _is_last(node)
        if is_op(node, "Mul"):
            numbers = [entry for entry in node.inputs if scalar(entry) is None]
            value = numbers[0] if len(numbers) == 1 else None
        elif is_op(node, "Unsqueeze", "Cos", "Sin", "Cast"):
            # An Unsqueeze that made the last axis would leave it at 1, and 1 is no two halves.
            value = node.inputs[0]
        else:
            return False
    return False
