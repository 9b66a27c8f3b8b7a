"""What there is to quantize: matrix multiplications with a constant weight, by the tensor they read."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from stcompile.compiler.dotted import split_shared
from stcompile.compiler.passes.graph import constant, is_op

Array = NDArray[np.float32]

# What a weight is called is where it is in the traced stack; a reader wants to know where it is in the model.
_PLACE = re.compile(r"^(stack\.)?(blocks\.\d+\.)?(network\.)?|\.weight(_transposed)?$|\.linear$")


@dataclass(frozen=True, eq=False)
class Layer:
    """The matrix multiplications that read one tensor: they share its quantization, as Q, K and V do.

    Attributes:
        name: what the model calls their weights, e.g. `encoder.layer.0.attention.self.(query, key, value)`.
        data: the tensor they read, `(..., in)`.
        nodes: the MatMul nodes, in the graph's order.
        shares_weights: whether some weight also serves another layer, so that it must stay what it is for both.
    """

    name: str
    data: ir.Value
    nodes: tuple[ir.Node, ...]
    shares_weights: bool

    @property
    def weights(self) -> list[Array]:
        """The weights, `(in, out)` each: turned views of torch's memory, as the exporter leaves them."""
        return [weight_of(node) for node in self.nodes]

    @property
    def multiplications(self) -> int:
        """Of one token: what the layer's share of the time follows."""
        return sum(weight.size for weight in self.weights)


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
        weight = node.inputs[1]
        assert weight is not None
        layers_of.setdefault(weight, set()).add(data)
    return [
        Layer(
            _joined([_place(node) for node in nodes]),
            data,
            tuple(nodes),
            any(len(layers_of[weight]) > 1 for node in nodes if (weight := node.inputs[1]) is not None),
        )
        for data, nodes in readers.items()
    ]


def weight_of(node: ir.Node) -> Array:
    """The constant matrix of one of a layer's nodes, `(in, out)`."""
    array = constant(node.inputs[1])
    assert array is not None  # only such nodes are in a layer
    return array.astype(np.float32, copy=False)


def _place(node: ir.Node) -> str:
    weight = node.inputs[1]
    name = weight.name if weight is not None and weight.name else str(node.name)
    return _PLACE.sub("", name) or name


def _joined(names: list[str]) -> str:
    """`a.(query, key)` of `a.query` and `a.key`."""
    start, ends = split_shared(names)
    return f"{start}.({', '.join(ends)})" if start else ", ".join(ends)
