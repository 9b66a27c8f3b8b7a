"""Operators that ONNX Runtime has no CUDA kernel for, in terms of those it has."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx_ir as ir

from stcompile.compiler.passes.base import PassResult
from stcompile.compiler.passes.constants import added, constant_named, integers
from stcompile.compiler.passes.graph import NoMatch, finish, matches, operand, swap

_INTEGERS = (ir.DataType.INT32, ir.DataType.INT64)


class UseGpuKernels:
    """Rewrites ArgMax of integers, Mish and Celu, which would run on the CPU in the middle of a GPU's graph.

    - ArgMax(x): the number of elements before the first that is as large as the largest. Where several are, that is
      the first, as ONNX wants it; an ArgMax of floats on a GPU does not promise that.
    - Mish(x): x * tanh(softplus(x)) (Misra, 2019), its own definition.
    - Celu(x): alpha * elu(x / alpha) (Barron, 2017).

    https://github.com/microsoft/onnxruntime/blob/main/docs/OperatorKernels.md
    """

    name = "use-gpu-kernels"

    def __call__(self, model: ir.Model) -> PassResult:
        refusals: list[str] = []
        rewrites = 0
        for op_type, rewrite in _REWRITES.items():
            rewrites += sum(1 for _ in matches(model.graph, op_type, partial(rewrite, model.graph), refusals))
        return finish(model, rewrites, refusals, "every operator has a kernel there")


def _argmax(graph: ir.Graph, node: ir.Node) -> None:
    x, axis = operand(node, 0), node.attributes.get_int("axis", 0)
    if x is None or x.dtype not in _INTEGERS:
        raise NoMatch("the ArgMax is of floats, which a GPU has")
    if node.attributes.get_int("select_last_index", 0):
        raise NoMatch("the ArgMax wants the last of the largest")
    axes = integers(graph, f"axes_{axis}", [axis])
    place = constant_named(graph, f"axis_{axis}", np.array(axis, dtype=np.int64))
    zero = constant_named(graph, "int64_0", np.array(0, dtype=np.int64))
    largest = added(graph, node, "ReduceMax", [x, axes], f"{node.name}_largest", {"keepdims": 1})
    hit = added(graph, node, "Equal", [x, largest], f"{node.name}_hit")
    ones = added(graph, node, "Cast", [hit], f"{node.name}_ones", {"to": ir.DataType.INT64})
    hits = added(graph, node, "CumSum", [ones, place], f"{node.name}_hits")
    before = added(graph, node, "Equal", [hits, zero], f"{node.name}_before")
    counted = added(graph, node, "Cast", [before], f"{node.name}_counted", {"to": ir.DataType.INT64})
    largest.type = x.type
    hit.dtype = before.dtype = ir.DataType.BOOL
    ones.dtype = hits.dtype = counted.dtype = ir.DataType.INT64
    keep = node.attributes.get_int("keepdims", 1)
    swap(graph, node, ir.node("ReduceSum", [counted, axes], attributes={"keepdims": keep}))


def _mish(graph: ir.Graph, node: ir.Node) -> None:
    gate = _like(node, added(graph, node, "Softplus", [node.inputs[0]], f"{node.name}_softplus"))
    share = _like(node, added(graph, node, "Tanh", [gate], f"{node.name}_tanh"))
    swap(graph, node, ir.node("Mul", [node.inputs[0], share]))


def _celu(graph: ir.Graph, node: ir.Node) -> None:
    alpha = node.attributes.get_float("alpha", 1.0)
    scale = constant_named(graph, f"celu_alpha_of_{node.name}", np.array(alpha, dtype=np.float32))
    scaled = _like(node, added(graph, node, "Div", [node.inputs[0], scale], f"{node.name}_scaled"))
    bent = _like(node, added(graph, node, "Elu", [scaled], f"{node.name}_elu"))
    swap(graph, node, ir.node("Mul", [bent, scale]))


_REWRITES: dict[str, Callable[[ir.Graph, ir.Node], None]] = {"ArgMax": _argmax, "Mish": _mish, "Celu": _celu}


def _like(node: ir.Node, value: ir.Value) -> ir.Value:
    value.type, value.shape = node.outputs[0].type, node.outputs[0].shape
    return value
