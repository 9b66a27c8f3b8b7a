"""GELU by tanh as loose nodes -> the standard ONNX Gelu operator."""

from __future__ import annotations

import math

import onnx_ir as ir

from stcompile.compiler.passes.base import PassResult
from stcompile.compiler.passes.graph import NoMatch, is_op, only_user, rewritten, scalar, swap

# Of 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), and how far a network's own may be from them: rounding.
_HALF, _INNER, _CUBIC = 0.5, math.sqrt(2 / math.pi), 0.044715
_CLOSE = 1e-6


class FuseGelu:
    """Rewrites the GELU by tanh (Hendrycks & Gimpel, 2016) of T5, ALBERT and GPT-2 to `Gelu` with `approximate=tanh`.

    The result is the eager one up to rounding. https://onnx.ai/onnx/operators/onnx__Gelu.html
    """

    name = "fuse-gelu"

    def __call__(self, model: ir.Model) -> PassResult:
        return rewritten(model, "Tanh", _rewrite, "no GELU by tanh is written as loose nodes")


def _rewrite(graph: ir.Graph, tanh: ir.Node) -> None:
    total = _by(_alone(tanh.inputs[0]), "Mul", _INNER)
    x, cubic = _sum(_alone(total))
    cube = _by(_alone(cubic), "Mul", _CUBIC)
    if _by(_alone(cube), "Pow", 3.0) is not x:
        raise NoMatch("a tanh is not of a sum of x and its cube")
    one_more = only_user(tanh.outputs[0])
    end = None if one_more is None else only_user(one_more.outputs[0])
    if one_more is None or end is None or not is_op(end, "Mul") or _by(one_more, "Add", 1.0) is not tanh.outputs[0]:
        raise NoMatch("a tanh of x and its cube is not the factor of a GELU")
    halves = [value for value in end.inputs if value is not one_more.outputs[0]]
    if len(halves) != 1 or halves[0] is None or _by(_alone(halves[0]), "Mul", _HALF) is not x:
        raise NoMatch("a tanh of x and its cube is not multiplied by half of x")
    swap(graph, end, ir.node("Gelu", [x], {"approximate": "tanh"}))


def _alone(value: ir.Value | None) -> ir.Node:
    """The node that makes a value for one reader."""
    node = None if value is None else value.producer()
    if value is None or node is None or only_user(value) is None:
        raise NoMatch("a tanh is of what is used elsewhere too, or fed from outside")
    return node


def _by(node: ir.Node, op_type: str, number: float) -> ir.Value:
    """What a node of that type combines with a constant number."""
    sides = (node.inputs, node.inputs[::-1]) if op_type != "Pow" else (node.inputs,)
    for value, other in sides if is_op(node, op_type) else ():
        found = scalar(other)
        if value is not None and found is not None and abs(found - number) <= _CLOSE * number:
            return value
    raise NoMatch(f"{node.op_type} stands in a tanh where {op_type} by {number:.6g} was expected")


def _sum(node: ir.Node) -> tuple[ir.Value, ir.Value]:
    """x, and what is added to it: the one that a multiplication makes."""
    if is_op(node, "Add"):
        for x, other in (node.inputs, node.inputs[::-1]):
            if x is not None and other is not None and is_op(other.producer(), "Mul") and only_user(other) is not None:
                return x, other
    raise NoMatch("a tanh is not of a sum of x and its cube")
