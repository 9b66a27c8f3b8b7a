"""Which nodes compute each token for itself, whatever stands around it."""

from __future__ import annotations

from collections.abc import Callable, Container

import onnx_ir as ir

from stcompile.compiler.passes.constants import integers
from stcompile.compiler.passes.graph import MICROSOFT, constant, operand
from stcompile.compiler.passes.rms_norm import CONTRIBUTED_NORM

# Operators whose outputs are made number by number, apart from broadcasting.
_ELEMENTWISE = (
    *("Abs", "Add", "Div", "Elu", "Erf", "Exp", "Gelu", "LeakyRelu", "Mul", "Neg", "Pow", "Reciprocal", "Relu"),
    *("Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh"),
)

Tokens = Container[ir.Value | None]
IsRow = Callable[[ir.Value | None], bool]


def is_constant_row(value: ir.Value | None) -> bool:
    """Whether it is a constant that is the same for every token of any layout: a number, or a vector."""
    array = constant(value)
    return array is not None and array.ndim < 2


def is_token_wise(node: ir.Node, tokens: Tokens, is_row: IsRow = is_constant_row) -> bool:
    """Whether each token's row of the outputs is made of the same token's rows of the inputs, and of constants.

    `tokens` are the values with a row for each token, `(batch, sequence, width)`; `is_row` tells those that are the
    same for every token.
    """
    rule = _RULES.get((node.domain, node.op_type))
    return rule is not None and any(value in tokens for value in node.inputs) and rule(node, tokens, is_row)


def over_last_axis(graph: ir.Graph, node: ir.Node) -> None:
    """Names the last axis of a token-wise node so that it is the last one of `(tokens, width)` too."""
    if "axis" in node.attributes:
        node.attributes["axis"] = ir.AttrInt64("axis", -1)
    if node.op_type == "ReduceMean":
        node.replace_input_with(1, integers(graph, "axes_-1", [-1]))


def _by_matrix(node: ir.Node, tokens: Tokens, _: IsRow) -> bool:
    weight = constant(operand(node, 1))
    return operand(node, 0) in tokens and weight is not None and weight.ndim == 2


def _along_last_axis(node: ir.Node, tokens: Tokens, _: IsRow) -> bool:
    default = 0 if node.op_type == "Split" else -1
    return operand(node, 0) in tokens and node.attributes.get_int("axis", default) in (-1, 2)


def _mean_of_last_axis(node: ir.Node, tokens: Tokens, _: IsRow) -> bool:
    axes = constant(operand(node, 1))
    keeps = node.attributes.get_int("keepdims", 1) == 1
    return operand(node, 0) in tokens and keeps and axes is not None and axes.tolist() in ([-1], [2])


def _number_by_number(node: ir.Node, tokens: Tokens, is_row: IsRow) -> bool:
    return all(value is None or value in tokens or is_row(value) for value in node.inputs)


def _to_floats(node: ir.Node, _: Tokens, __: IsRow) -> bool:
    return node.attributes.get_int("to") in (ir.DataType.FLOAT, ir.DataType.FLOAT16)


_RULES: dict[tuple[str, str], Callable[[ir.Node, Tokens, IsRow], bool]] = {
    **{("", name): _number_by_number for name in _ELEMENTWISE},
    ("", "Cast"): _to_floats,
    ("", "MatMul"): _by_matrix,
    **{("", name): _along_last_axis for name in ("LayerNormalization", CONTRIBUTED_NORM)},
    ("", "Split"): _along_last_axis,
    ("", "ReduceMean"): _mean_of_last_axis,
    (MICROSOFT, "SkipLayerNormalization"): _number_by_number,
    (MICROSOFT, "BiasGelu"): _number_by_number,
}
