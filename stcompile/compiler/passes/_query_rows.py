"""Which rows of its inputs an operator needs for some rows of its output: what lets scores be made block by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from stcompile.compiler.passes.graph import NoMatch, constant, dims, operand

# Made number by number, apart from broadcasting.
_ELEMENTWISE = (
    *("Abs", "Add", "And", "BitwiseNot", "Cast", "Ceil", "Clip", "Div", "Equal", "Exp", "Floor", "Greater"),
    *("GreaterOrEqual", "Identity", "IsInf", "IsNaN", "Less", "LessOrEqual", "Log", "Max", "Min", "Mod", "Mul", "Neg"),
    *("Not", "Or", "Pow", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sqrt", "Sub", "Tanh", "Where", "Xor"),
)


@dataclass(frozen=True)
class Rows:
    """The rows in question, along one axis of an input."""

    axis: int


@dataclass(frozen=True)
class Whole:
    """All of an input, whatever the rows."""


@dataclass(frozen=True)
class TargetShape:
    """An input that is the shape of the output: `length` stands in it for the rows' axis, None for their number."""

    axis: int
    length: int | None


Need = Rows | Whole | TargetShape


def needs(node: ir.Node, axis: int) -> list[Need]:
    """What a node needs of each input for some rows, which lie along `axis`, of its first output.

    Raises:
        NoMatch: the operator is not known to make these rows apart from the others.
    """
    rule = _RULES.get(node.op_type) if node.domain == "" else None
    if rule is None:
        raise NoMatch(f"{node.op_type} is not known to make the scores of some queries apart from the others")
    return rule(node, axis)


def shape_of(value: ir.Value | None) -> tuple[int | str | None, ...]:
    """The annotated shape. Raises `NoMatch` where there is none."""
    found = None if value is None else dims(value)
    if found is None:
        raise NoMatch("the shape of what makes the scores is not known")
    return found


def _elementwise(node: ir.Node, axis: int) -> list[Need]:
    rank = len(shape_of(node.outputs[0]))
    return [_broadcast(value, axis - rank) for value in node.inputs]


def _broadcast(value: ir.Value | None, from_end: int) -> Need:
    found = () if value is None else shape_of(value)
    return Whole() if len(found) < -from_end or found[from_end] == 1 else Rows(len(found) + from_end)


def _softmax(node: ir.Node, axis: int) -> list[Need]:
    over = node.attributes.get_int("axis", -1) % len(shape_of(node.outputs[0]))
    if over == axis:
        raise NoMatch("a softmax is over the queries")
    return [Rows(axis)]


def _matmul(node: ir.Node, axis: int) -> list[Need]:
    left, right = (len(shape_of(value)) for value in node.inputs)
    from_end = axis - len(shape_of(node.outputs[0]))
    if from_end == -2:
        return [Rows(left - 2), Whole()]
    if from_end == -1:
        return [Whole(), Rows(right - 1)]
    raise NoMatch("a product has the queries among its batches")


def _transpose(node: ir.Node, axis: int) -> list[Need]:
    return [Rows(node.attributes.get_ints("perm")[axis])]


def _squeeze(node: ir.Node, axis: int) -> list[Need]:
    rank = len(shape_of(node.inputs[0]))
    kept = [index for index in range(rank) if index not in _axes(node, rank)]
    return [Rows(kept[axis]), Whole()]


def _unsqueeze(node: ir.Node, axis: int) -> list[Need]:
    rank = len(shape_of(node.outputs[0]))
    return [Rows([index for index in range(rank) if index not in _axes(node, rank)].index(axis)), Whole()]


def _axes(node: ir.Node, rank: int) -> set[int]:
    found = constant(operand(node, 1))
    if found is None:
        raise NoMatch(f"the axes of {node.op_type} are no constants")
    return {int(index) % rank for index in found.reshape(-1)}


def _reshape(node: ir.Node, axis: int) -> list[Need]:
    source, target = shape_of(node.inputs[0]), shape_of(node.outputs[0])
    # What lies behind the axis is the same, so what lies before it has the same size too.
    inner = len(source) - (len(target) - axis)
    if inner < 0 or source[inner:] != target[axis:] or None in target[axis:]:
        raise NoMatch("a Reshape does not keep the queries apart")
    return [Rows(inner), TargetShape(axis, None)]


def _expand(node: ir.Node, axis: int) -> list[Need]:
    source = _broadcast(node.inputs[0], axis - len(shape_of(node.outputs[0])))
    # Where there are rows, 1 leaves as many as there are.
    return [source, TargetShape(axis, 1 if isinstance(source, Rows) else None)]


def _gather(node: ir.Node, axis: int) -> list[Need]:
    rank = len(shape_of(node.inputs[0]))
    inner = axis - node.attributes.get_int("axis", 0) % rank
    if not 0 <= inner < len(shape_of(node.inputs[1])):
        raise NoMatch("a lookup has the queries in its table")
    return [Whole(), Rows(inner)]


def _gather_elements(node: ir.Node, axis: int) -> list[Need]:
    over = node.attributes.get_int("axis", 0) % len(shape_of(node.outputs[0]))
    return [Whole() if over == axis else Rows(axis), Rows(axis)]


def _attention(node: ir.Node, axis: int) -> list[Need]:
    told = [name for name in ("is_causal", "qk_matmul_output_mode") if node.attributes.get_int(name, 0)]
    if axis != 1 or len(shape_of(node.inputs[0])) != 3 or told or len(node.inputs) > 4 or len(node.outputs) > 1:
        raise NoMatch("an Attention has more than query, key, value and mask")
    mask = operand(node, 3)
    return [Rows(1), Whole(), Whole(), *([] if mask is None else [_broadcast(mask, -2)])]


_RULES: dict[str, Callable[[ir.Node, int], list[Need]]] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    "Softmax": _softmax,
    "MatMul": _matmul,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Expand": _expand,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Attention": _attention,
}
