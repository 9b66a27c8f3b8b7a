"""Questions every pass asks of a graph, and the bookkeeping every pass ends with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from stcompile.compiler.passes.base import PassResult

MICROSOFT = "com.microsoft"

Dim = int | str | None

Match = TypeVar("Match")


class NoMatch(Exception):
    """The pattern nearly held; the text is the sentence that says what differed."""


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether `node` is one of these operators of the default ONNX domain."""
    return node is not None and node.domain == "" and node.op_type in op_types


def is_contributed(node: ir.Node, *op_types: str) -> bool:
    """Whether `node` is one of these operators of ONNX Runtime's own domain."""
    return node.domain == MICROSOFT and node.op_type in op_types


def operand(node: ir.Node, index: int) -> ir.Value | None:
    """The input at `index`, or None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def weight_of(matmul: ir.Node) -> ir.Value:
    """What it multiplies with."""
    weight = matmul.inputs[1]
    assert weight is not None  # an operand that is not optional
    return weight


def only_user(value: ir.Value) -> ir.Node | None:
    """The one node that reads `value`, or None where it is a graph output or has not exactly one use."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def reader_of(value: ir.Value, what: str) -> ir.Node:
    """The one node that reads `value`, which `what` names. Raises `NoMatch` where there is another reader, or none."""
    node = only_user(value)
    if node is None:
        raise NoMatch(f"{what} is used elsewhere too")
    return node


def input_named(graph: ir.Graph, name: str) -> ir.Value:
    """The graph's input of that name, which it has."""
    return next(value for value in graph.inputs if value.name == name)


def constant(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The tensor of an initializer that is no graph input; None for anything else.

    Outputs of Constant nodes are left out: unlike an initializer they have a place in the graph, and a
    rewrite that reads one earlier would break the order. CleanGraph makes initializers of them.
    """
    if value is None or not value.is_initializer() or value.is_graph_input() or value.const_value is None:
        return None
    return value.const_value.numpy()


def bias_add(matmul: ir.Node, width: int) -> tuple[ir.Node, ir.Value | None]:
    """The Add of a constant `(width,)` that is all that reads `matmul`, and the constant; or itself, and None."""
    user = only_user(matmul.outputs[0])
    if user is not None and is_op(user, "Add"):
        for value in user.inputs:
            bias = constant(value)
            if value is not None and bias is not None and bias.shape == (width,):
                return user, value
    return matmul, None


def scalar(value: ir.Value | None) -> float | None:
    """The number in a constant of one element and of any rank; None for anything else."""
    tensor = constant(value)
    return float(tensor.reshape(())) if tensor is not None and tensor.size == 1 else None


def dims(value: ir.Value) -> tuple[Dim, ...] | None:
    """The annotated shape: a number, a symbol, or None where a dimension is unknown; None without a rank."""
    if value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape)


def slice_of(node: ir.Node, steps: int = 1) -> tuple[int, int, int] | None:
    """Axis, counted from behind, start and stop of a Slice along one axis, forwards in such steps; None for others.

    A stop behind the last one is as large as the exporter writes it.
    """
    rank = len(dims(node.outputs[0]) or ()) if is_op(node, "Slice") else 0
    found = [constant(value) for value in node.inputs[1:]]
    if not rank or any(array is None or array.size != 1 for array in found) or len(found) not in (3, 4):
        return None
    start, stop, axis, *step = (int(array.reshape(())) for array in found if array is not None)
    if start < 0 or stop <= start or (step or [1]) != [steps]:
        return None
    return (axis - rank if axis >= 0 else axis), start, stop


def same(left: Dim, right: Dim) -> bool:
    """Whether two dimensions are known to be equal; an unknown one equals nothing, itself included."""
    return left is not None and left == right


def swap(graph: ir.Graph, old: ir.Node, new: ir.Node) -> None:
    """Put `new` in the place of `old`: its one output takes the name, type, shape and users of old's."""
    graph.insert_before(old, new)
    ir.convenience.replace_nodes_and_values(graph, new, [old], [], old.outputs, new.outputs)


def matches(graph: ir.Graph, op_type: str, match: Callable[[ir.Node], Match], refusals: list[str]) -> Iterator[Match]:
    """What `match` makes of each node of that type, in order, found one by one, so that each may be rewritten at once.

    Subgraphs are left alone. `refusals` collects the sentences of near misses, which `match` raises as `NoMatch`.
    """
    for node in tuple(graph):
        if is_op(node, op_type):
            try:
                found = match(node)
            except NoMatch as reason:
                refusals.append(str(reason))
            else:
                yield found


def rewritten(model: ir.Model, op_type: str, rewrite: Callable[[ir.Graph, ir.Node], None], absent: str) -> PassResult:
    """Rewrites each node of that type, in place, where `rewrite` raises no `NoMatch`, and finishes with `absent`."""
    refusals: list[str] = []
    count = sum(1 for _ in matches(model.graph, op_type, partial(rewrite, model.graph), refusals))
    return finish(model, count, refusals, absent)


def finish(model: ir.Model, rewrites: int, refusals: Iterable[str], absent: str) -> PassResult:
    """Removes what the rewrites left unused, and reports: `absent` where the pattern neither held nor nearly held."""
    if rewrites:
        RemoveUnusedNodesPass()(model)
    said = tuple(dict.fromkeys(refusals))
    return PassResult(model, rewrites, said if said or rewrites else (absent,))
