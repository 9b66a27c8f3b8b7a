"""RMS normalization as loose nodes -> one operator: the standard's, or ONNX Runtime's own."""

from __future__ import annotations

import onnx_ir as ir

from stcompile.compiler.passes.base import PassResult
from stcompile.compiler.passes.graph import (
    NoMatch,
    constant,
    dims,
    finish,
    is_op,
    matches,
    only_user,
    operand,
    reader_of,
    scalar,
    swap,
)
from stcompile.compiler.passes.opset import obstacle, raise_opset

STANDARD_NORM = "RMSNormalization"
# ONNX Runtime registers it in the standard's domain, for every opset.
CONTRIBUTED_NORM = "SimplifiedLayerNormalization"

_ABSENT = "no root mean square is normalized by"


class FuseRmsNorm:
    """Rewrites x / sqrt(mean(x^2) + epsilon) * gain to `ai.onnx::RMSNormalization` (opset 23).

    Where it is `contributed`, to `SimplifiedLayerNormalization`, which computes the same and lets the opset stay.

    The mean is over the last axis, the gain a constant of that width: the normalization of Zhang & Sennrich (2019) as
    LLaMA-like networks and T5 have it; where a network multiplies by 1 + w, the exporter has folded the sum. The result
    is the eager one up to the order of float additions.
    https://onnx.ai/onnx/operators/onnx__RMSNormalization.html
    """

    name = "fuse-rms-norm"

    def __init__(self, *, contributed: bool = False) -> None:
        self._contributed = contributed

    def __call__(self, model: ir.Model) -> PassResult:
        rewrites = 0
        refusals: list[str] = []
        barrier = None if self._contributed else obstacle(model)
        operator = CONTRIBUTED_NORM if self._contributed else STANDARD_NORM
        for end, x, gain, epsilon in matches(model.graph, "Sqrt", _match, refusals):
            if barrier is not None:
                return finish(model, 0, [barrier], _ABSENT)
            swap(model.graph, end, ir.node(operator, [x, gain], {"axis": -1, "epsilon": epsilon}))
            if not self._contributed:
                raise_opset(model)
            rewrites += 1
        return finish(model, rewrites, refusals, _ABSENT)


def _match(root: ir.Node) -> tuple[ir.Node, ir.Value, ir.Value, float]:
    total = _made_by(root.inputs[0], "Add", "what is added to a mean of squares")
    mean, epsilon = _with_number(total)
    mean_node = _made_by(mean, "ReduceMean", "the mean of squares")
    squares = mean_node.inputs[0]
    axes = constant(operand(mean_node, 1))
    if axes is None or axes.tolist() != [-1] or mean_node.attributes.get_int("keepdims", 1) != 1:
        raise NoMatch("a mean of squares is not over the last axis")
    x = _squared(squares)
    shape = dims(x)
    inverse = reader_of(root.outputs[0], "the root of a mean of squares")
    if is_op(inverse, "Reciprocal"):
        inverse = reader_of(inverse.outputs[0], "the root of a mean of squares")
        normal = inverse if is_op(inverse, "Mul") and x in inverse.inputs else None
    else:
        normal = inverse if is_op(inverse, "Div") and inverse.inputs[0] is x else None
    if normal is None:
        raise NoMatch("what is normalized by a root mean square is not what it is of")
    end = reader_of(normal.outputs[0], "what a root mean square normalizes")
    gains = [value for value in end.inputs if value is not normal.outputs[0]]
    gain = constant(gains[0]) if is_op(end, "Mul") and len(gains) == 1 else None
    if gain is None or gains[0] is None or shape is None or gain.shape != shape[-1:]:
        raise NoMatch("what a root mean square normalizes is not multiplied by a constant vector")
    return end, x, gains[0], epsilon


def _made_by(value: ir.Value | None, op_type: str, what: str) -> ir.Node:
    node = None if value is None else value.producer()
    if value is None or node is None or not is_op(node, op_type) or only_user(value) is None:
        raise NoMatch(f"{what} is not made by {op_type} for it alone")
    return node


def _with_number(node: ir.Node) -> tuple[ir.Value, float]:
    left, right = node.inputs
    for value, other in ((left, right), (right, left)):
        number = scalar(other)
        if value is not None and number is not None:
            return value, number
    raise NoMatch("no constant number is added to a mean of squares")


def _squared(value: ir.Value | None) -> ir.Value:
    node = None if value is None else value.producer()
    if value is None or node is None or only_user(value) is None:
        raise NoMatch("a mean under a root is of what is used elsewhere too")
    x = node.inputs[0]
    power = scalar(operand(node, 1)) == 2 if is_op(node, "Pow") else is_op(node, "Mul") and node.inputs[1] is x
    if x is None or not power:
        raise NoMatch("a mean under a root is not of squares")
    return x
