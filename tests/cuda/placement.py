"""Where ONNX Runtime would put each node of a graph if there were a GPU: its rules, and the kernels it has.

Kernels: docs/OperatorKernels.md of onnxruntime. Rules: core/framework/fallback_cpu_capability.cc, by which a node that
reads nothing but numbers on the CPU (shapes, small initializers, graph inputs) stays there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from stcompile.compiler.passes.graph import MICROSOFT

_FLOATS = frozenset(("FLOAT", "FLOAT16"))
# Kernels of it, by the names of their classes in onnxruntime-gpu 1.24.
_WITH_BFLOAT16 = _FLOATS | {"BFLOAT16"}
_INTS = frozenset(("INT32", "INT64"))
_NUMBERS = _FLOATS | _INTS
_ALL = _NUMBERS | {"BFLOAT16", "BOOL", "INT8", "UINT8"}

_SMALL = 100  # elements of an initializer that may be read on the CPU too


@dataclass(frozen=True)
class Kernel:
    """What an operator takes there: types of its first input, and which inputs it wants in the CPU's memory."""

    types: frozenset[str]
    on_cpu: frozenset[int] = frozenset()


def _kernels(types: Iterable[str], names: str, *on_cpu: int) -> dict[str, Kernel]:
    return dict.fromkeys(names.split(), Kernel(frozenset(types), frozenset(on_cpu)))


KERNELS: dict[str, Kernel] = {
    **_kernels(_NUMBERS | {"BFLOAT16"}, "Add Sub Mul Div Neg"),
    **_kernels(_NUMBERS, "Max Min Mod Pow Greater GreaterOrEqual Less LessOrEqual Abs Sign"),
    **_kernels(_WITH_BFLOAT16, "Erf Tanh Sigmoid Gelu Softmax Relu LayerNormalization SimplifiedLayerNormalization"),
    **_kernels(_WITH_BFLOAT16, "MatMul Gemm"),
    **_kernels(_FLOATS, "Ceil Floor Cos Sin Exp Log Sqrt Softplus Softsign Elu"),
    **_kernels(_FLOATS, "LeakyRelu PRelu Selu HardSigmoid HardSwish Reciprocal LSTM Conv ArgMax Attention"),
    **_kernels(_FLOATS | {"INT64", "BOOL"}, "GatherND"),
    **_kernels(_ALL, "Cast Concat Gather GatherElements Identity Shape Size Transpose Flatten ScatterElements"),
    **_kernels(_ALL, "ReverseSequence"),
    **_kernels(_NUMBERS | {"BOOL"}, "Equal"),
    **_kernels({"BOOL"}, "And Or Not Where Xor"),
    **_kernels(_ALL, "Expand Reshape Squeeze Unsqueeze Split", 1),
    **_kernels(_ALL, "Slice", 1, 2, 3, 4),
    **_kernels(_FLOATS | {"BOOL"}, "Pad", 1, 2, 3),
    **_kernels(_NUMBERS, "Tile ReduceSum ReduceMax ReduceMin CumSum", 1),
    **_kernels(_FLOATS | {"INT32"}, "ReduceMean ReduceL2", 1),
    **_kernels(_FLOATS, "ReduceSumSquare", 1),
    **_kernels(_FLOATS | {"INT64", "INT8", "UINT8"}, "Clip", 1, 2),
    **_kernels({"FLOAT", "INT32", "INT64"}, "Range", 0, 1, 2),
    **_kernels({"INT64"}, "ConstantOfShape", 0),
    **_kernels({"INT8", "UINT8"}, "DequantizeLinear"),
}

CONTRIBUTED: dict[str, Kernel] = {
    **_kernels(_WITH_BFLOAT16, "MultiHeadAttention RotaryEmbedding SkipLayerNormalization BiasGelu"),
    **_kernels(_FLOATS, "PackedMultiHeadAttention RemovePadding RestorePadding"),
}

_OUT_OF_SHAPES = ("Shape", "Size")


@dataclass(frozen=True)
class Placement:
    """Nodes that stay on the CPU, those without a kernel on a GPU, and values that are copied from one to the other."""

    on_cpu: tuple[ir.Node, ...]
    without_kernel: tuple[ir.Node, ...]
    copied: tuple[ir.Value, ...]


def placed(model: ir.Model) -> Placement:
    """Where the nodes of a graph go, in its order."""
    cpu_values: set[ir.Value] = set()
    on_cpu: list[ir.Node] = []
    without: list[ir.Node] = []
    for node in model.graph:
        kernel = _kernel(node)
        if kernel is None:
            without.append(node)
        if kernel is None or _prefers_cpu(node, kernel, cpu_values):
            on_cpu.append(node)
            cpu_values.update(node.outputs)
        elif node.op_type in _OUT_OF_SHAPES:
            cpu_values.update(node.outputs)
    cpu_nodes = set(on_cpu)
    copied = {
        value: None
        for node in model.graph
        for index, value in enumerate(node.inputs)
        if value is not None
        and value.producer() is not None
        and (value in cpu_values) != _reads_on_cpu(node, index, cpu_nodes)
    }
    return Placement(tuple(on_cpu), tuple(without), tuple(copied))


def _kernel(node: ir.Node) -> Kernel | None:
    known = {"": KERNELS, MICROSOFT: CONTRIBUTED}.get(node.domain, {}).get(node.op_type)
    first = next((value for value in node.inputs if value is not None), None)
    if known is None or first is None or first.dtype is None:
        return known
    return known if first.dtype.name in known.types else None


def _reads_on_cpu(node: ir.Node, index: int, cpu_nodes: set[ir.Node]) -> bool:
    kernel = _kernel(node)
    return node in cpu_nodes or (kernel is not None and index in kernel.on_cpu)


def _prefers_cpu(node: ir.Node, kernel: Kernel, cpu_values: set[ir.Value]) -> bool:
    if not any(value in cpu_values for value in node.inputs if value is not None):
        return False
    for index, value in enumerate(node.inputs):
        if value is None:
            continue
        if value.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
            return False
        if value.is_graph_input() or _is_small(value):
            continue
        if value not in cpu_values or index in kernel.on_cpu:
            return False
    return True


def _is_small(value: ir.Value) -> bool:
    return value.is_initializer() and value.const_value is not None and value.const_value.size <= _SMALL
