"""What there is to quantize: matrix multiplications with a constant weight, by the tensor they read.

Linear layers over flattened tokens, which torch's exporter writes as Gemm, become the MatMul that recipes know first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from stcompile.compiler.dotted import split_shared
from stcompile.compiler.passes.constants import added, constant_named
from stcompile.compiler.passes.graph import constant, is_op, operand, swap, weight_of

Array = NDArray[np.float32]

# What a weight is called is where it is in the traced stack; a reader wants to know where it is in the model.
_AROUND_NAME = re.compile(r"^(stack\.)?(blocks\.\d+\.)?(network\.)?|\.weight(_transposed)?$|\.linear$")


@dataclass(frozen=True, eq=False)
class Layer:
    """The matrix multiplications that read one tensor: they share its quantization, as Q, K and V do.

    Attributes:
        name: what the model calls their weights, e.g. `encoder.layer.0.attention.self.(query, key, value)`.
        nodes: the MatMul nodes, in the graph's order.
        shares_weights: whether some weight also serves another layer, so that it must stay what it is for both.
    """

    name: str
    nodes: tuple[ir.Node, ...]
    shares_weights: bool

    @property
    def data(self) -> ir.Value:
        """The tensor they read now, `(..., in)`: another one once what makes it was rewritten."""
        data = self.nodes[0].inputs[0]
        assert data is not None  # a MatMul has it
        return data

    @property
    def weights(self) -> list[Array]:
        """The weights, `(in, out)` each: turned views of torch's memory, as the exporter leaves them."""
        arrays = (constant(node.inputs[1]) for node in self.nodes)
        return [array.astype(np.float32, copy=False) for array in arrays if array is not None]

    @property
    def weight(self) -> Array:
        """A copy of the weights side by side, `(in, out)`."""
        weights = self.weights
        width = sum(weight.shape[1] for weight in weights)
        return np.concatenate(weights, axis=1, out=np.empty((len(weights[0]), width), dtype=np.float32))

    @property
    def largest(self) -> Array:
        """Largest magnitude of all weights in each input channel, `(in,)`."""
        found: Array = np.max([np.abs(weight).max(axis=1) for weight in self.weights], axis=0)
        return found

    @property
    def multiplications(self) -> int:
        """Of one token: what the layer's share of the time follows."""
        return sum(weight.size for weight in self.weights)


def split_token_gemms(model: ir.Model) -> int:
    """Rewrites each Gemm that reads a Reshape, in place. Returns how many.

    A Gemm over anything else is a Dense on the pooled vector: it runs once a text, and stays.
    """
    return sum(_made_matmul(model.graph, node) for node in list(model.graph) if is_op(node, "Gemm"))


def find_layers(graph: ir.Graph) -> list[Layer]:
    """Every layer of a float32 graph, in order.

    MatMul nodes over a constant float32 matrix `(in, out)`. Gemm stays out, but for those that `split_token_gemms` made
    MatMul of: it is a Dense on the pooled vector, which runs once a text.
    """
    readers: dict[ir.Value, list[ir.Node]] = {}
    layers_of: dict[ir.Value, set[ir.Value]] = {}
    for node in graph:
        array = constant(node.inputs[1]) if is_op(node, "MatMul") else None
        data = node.inputs[0] if array is not None else None
        if array is None or array.ndim != 2 or array.dtype != np.float32 or data is None:
            continue
        readers.setdefault(data, []).append(node)
        layers_of.setdefault(weight_of(node), set()).add(data)
    return [
        Layer(
            _joined([_weight_name(node) for node in nodes]),
            tuple(nodes),
            any(len(layers_of[weight_of(node)]) > 1 for node in nodes),
        )
        for nodes in readers.values()
    ]


def _weight_name(node: ir.Node) -> str:
    name = weight_of(node).name or str(node.name)
    return _AROUND_NAME.sub("", name) or name


def _joined(names: list[str]) -> str:
    """`a.(query, key)` of `a.query` and `a.key`."""
    start, ends = split_shared(names)
    return f"{start}.({', '.join(ends)})" if start else ", ".join(ends)


def _made_matmul(graph: ir.Graph, node: ir.Node) -> bool:
    data, weight, bias = node.inputs[0], node.inputs[1], operand(node, 2)
    array = constant(weight)
    reshape = None if data is None else data.producer()
    if data is None or weight is None or array is None or reshape is None or not is_op(reshape, "Reshape"):
        return False
    flattened = reshape.inputs[0]
    if flattened is not None and flattened.shape is not None and len(flattened.shape) < 3:
        # Not tokens: the counts of a bag of words, for one
        return False
    known = node.attributes
    if known.get_int("transA", 0) or known.get_float("alpha", 1.0) != 1 or known.get_float("beta", 1.0) != 1:
        return False
    if known.get_int("transB", 0):
        turned = np.ascontiguousarray(array.T)
        weight = constant_named(graph, f"{weight.name}_transposed", turned)
    label = str(node.name)
    if bias is None:
        swap(graph, node, ir.node("MatMul", [data, weight], name=f"{label}_matmul"))
        return True
    product = added(graph, node, "MatMul", [data, weight], f"{label}_matmul")
    swap(graph, node, ir.node("Add", [product, bias], name=f"{label}_bias"))
    return True
