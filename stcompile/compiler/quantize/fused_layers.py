"""Encoder layers as one operator each, of the package's own: what `native/operators.cpp` computes, and its body.

Weights are stored as the kernels read them, in panels of 64 columns; the scale of the scores, and the base 2 of the
kernels' exponentials, are in those of the queries.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from stcompile.artifact.report import PassSummary
from stcompile.compiler.passes.encoder_layers import HEAD_STEP, PANEL, EncoderLayer, Linear, find_encoder_layers
from stcompile.compiler.passes.graph import swap, weight_of
from stcompile.compiler.passes.padding_mask import ATTENTION_MASK, proofs
from stcompile.compiler.quantize.layer_bodies import PARTS, layer_body
from stcompile.kernels.native import DOMAIN

_VERSION = 1


@dataclass(frozen=True)
class Packed:
    """One linear layer for an operator.

    Attributes:
        weights: makes them, `(in, out)`, in the operator's numbers: where they are written, and only then, so that no
            copy of a network's weights is in memory beside it.
        dtype: of these numbers.
        word: neighbours of a column that its kernels take at once.
        columns: one number a column, `(out,)`: the bias first.
        rows: one number an input, `(in,)`.
        attributes: of the operator, without the layer's name in front.
    """

    weights: Callable[[], NDArray[Any]]
    dtype: ir.DataType
    word: int
    columns: Mapping[str, NDArray[np.float32]]
    rows: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    attributes: Mapping[str, int | float] = field(default_factory=dict)


# A linear layer of an encoder layer: one, or queries, keys and values side by side.
Pack = Callable[[Sequence[Linear], NDArray[np.float32]], Packed]


def fusable_layers(model: ir.Model, longest: int | None) -> tuple[list[EncoderLayer], tuple[str, ...]]:
    """The encoder layers of a float32 graph that one operator can compute, and why others are none.

    No text has more positions than `longest`, None for no limit.

    Returns:
        the layers in order, and one sentence for each reason that something nearly was one.
    """
    refusals: list[str] = []
    found = list(find_encoder_layers(model.graph, refusals))
    proved = proofs(model, [layer.mask for layer in found], longest)
    if not all(proof.hides_padding for proof in proved.values()):
        refusals.append("more than padding and relative positions is added to the scores (a window, for one)")
    if not found and not refusals:
        refusals.append("it has no attention of the kind that is known")
    layers = [
        dataclasses.replace(layer, bias=proved[layer.mask].bias) for layer in found if proved[layer.mask].hides_padding
    ]
    alike = [layer for layer in layers if _kind(layer) == _kind(layers[0])]
    if len(alike) < len(layers):
        refusals.append("it has other heads or another kind of bias than the layers before it")
    return alike, tuple(dict.fromkeys(refusals))


def _kind(layer: EncoderLayer) -> tuple[int, bool]:
    """What all layers of a graph have in common, whose operator has one body."""
    return layer.heads, layer.bias is not None


def summary(model: ir.Model, written: int, refusals: Sequence[str]) -> PassSummary:
    """What the report says of layers that became operators, and of those that did not."""
    left = any(node.op_type == "Attention" for node in model.graph)
    why = refusals or ("a linear layer of it is kept in float32, or read elsewhere too",)
    return PassSummary("encoder-layers", written, tuple(why) if left or not written else ())


def write_layers(model: ir.Model, layers: Sequence[EncoderLayer], op_type: str, packs: Sequence[Pack]) -> None:
    """Puts the operator in the place of some layers of a graph, and its body beside the graph."""
    for layer, pack in zip(layers, packs, strict=True):
        _write_layer(model, layer, op_type, pack)
    RemoveUnusedNodesPass()(model)
    if layers:
        first = layers[0]
        body = layer_body(op_type, first.heads, model.graph.opset_imports[""], biased=first.bias is not None)
        model.functions[body.identifier()] = body


def _write_layer(model: ir.Model, layer: EncoderLayer, op_type: str, pack: Pack) -> None:
    graph = model.graph
    ones = np.ones(layer.width, dtype=np.float32)
    scores = np.float32(layer.scale * math.log2(math.e))
    parts = {
        "qkv": ([layer.query, layer.key, layer.value], np.concatenate([ones * scores, ones, ones])),
        "output": ([layer.output], ones),
        "up": ([layer.up], np.ones(len(layer.up.bias), dtype=np.float32)),
        "down": ([layer.down], ones),
    }
    # Read from the node: the layer before may be another value than when this one was found.
    hidden = layer.query.node.inputs[0]
    inputs: list[ir.Value | None] = [hidden, _graph_input(graph, ATTENTION_MASK)]
    attributes: dict[str, int | float] = {
        "heads": layer.heads,
        "head_size": _head_size(layer),
        "hidden": layer.width,
        "intermediate": len(layer.up.bias),
        "epsilon_1": layer.norm_1.epsilon,
        "epsilon_2": layer.norm_2.epsilon,
    }
    for name, (linears, factors) in parts.items():
        packed = pack(linears, factors)
        if name == "qkv":
            packed = _columns_by_heads(packed, layer, 3)
        elif name == "output":
            packed = _rows_by_heads(packed, layer)
        attributes |= {f"{name}_{attribute}": value for attribute, value in packed.attributes.items()}
        label = f"{weight_of(linears[0].node).name}_{name}"
        width = layer.heads * _head_size(layer) if name == "output" else len(linears[0].weight)
        shape = ir.Shape(panels_shape(width, len(packed.columns["bias"]), packed.word))
        tensors: dict[str, ir.TensorProtocol] = {
            "panels": ir.LazyTensor(partial(_panels_of, packed), packed.dtype, shape),
            **{part: ir.tensor(array) for part, array in (*packed.columns.items(), *packed.rows.items())},
        }
        inputs += [_initializer(graph, f"{label}_{part}", tensors[part], layer) for part in PARTS[op_type]]
    for norm in (layer.norm_1, layer.norm_2):
        inputs += [norm.gain, norm.bias]
    inputs += [] if layer.bias is None else [layer.bias]
    node = ir.node(op_type, inputs, attributes, domain=DOMAIN, name=f"{layer.norm_2.node.name}_layer")
    graph.opset_imports[DOMAIN] = _VERSION
    swap(graph, layer.norm_2.node, node)


def _head_size(layer: EncoderLayer) -> int:
    """Of a head as the kernels take it: filled up with zeros where it has another size."""
    return -(-layer.width // layer.heads // HEAD_STEP) * HEAD_STEP


def _columns_by_heads(packed: Packed, layer: EncoderLayer, count: int) -> Packed:
    def spread(array: NDArray[Any], fill: float = 0) -> NDArray[Any]:
        return _spread(array, count * layer.heads, _head_size(layer), fill)

    return dataclasses.replace(
        packed,
        weights=lambda: spread(packed.weights()),
        columns={name: spread(array, name == "scale") for name, array in packed.columns.items()},
    )


def _rows_by_heads(packed: Packed, layer: EncoderLayer) -> Packed:
    def spread(array: NDArray[Any], fill: float = 0) -> NDArray[Any]:
        return _spread(array.T, layer.heads, _head_size(layer), fill).T

    return dataclasses.replace(
        packed,
        weights=lambda: spread(packed.weights()),
        rows={name: spread(array, 1) for name, array in packed.rows.items()},
    )


def _spread(array: NDArray[Any], groups: int, size: int, fill: float) -> NDArray[Any]:
    """`(..., groups * n)` as `(..., groups * size)`: each group filled up."""
    apart = array.reshape(*array.shape[:-1], groups, -1)
    if apart.shape[-1] == size:
        return array
    around = [(0, 0)] * (apart.ndim - 1)
    filled = np.pad(apart, [*around, (0, size - apart.shape[-1])], constant_values=fill)
    return filled.reshape(*array.shape[:-1], groups * size)


def panels(weight: NDArray[np.generic], word: int) -> NDArray[np.generic]:
    """`(in, out)` as `(out / 64, in / word, 64, word)`: `word` neighbours of each column behind each other.

    The last panel is filled up with columns of zeros.
    """
    rows, columns = weight.shape
    count, *_ = panels_shape(rows, columns, word)
    filled = np.zeros((rows, count * PANEL), dtype=weight.dtype)
    filled[:, :columns] = weight
    return np.ascontiguousarray(filled.reshape(rows // word, word, count, PANEL).transpose(2, 0, 3, 1))


def panels_shape(rows: int, columns: int, word: int) -> tuple[int, int, int, int]:
    """Of `panels`."""
    return -(-columns // PANEL), rows // word, PANEL, word


def _panels_of(packed: Packed) -> ir.TensorProtocol:
    return ir.Tensor(panels(packed.weights(), packed.word), dtype=packed.dtype)


def biases(linears: Sequence[Linear], factors: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(out,)`, scaled."""
    joined: NDArray[np.float32] = np.concatenate([linear.bias for linear in linears]) * factors
    return joined


def _initializer(graph: ir.Graph, name: str, tensor: ir.TensorProtocol, layer: EncoderLayer) -> ir.Value:
    """The initializer of that name where it is the same, as in networks whose layers are one; otherwise a new one."""
    known = graph.initializers.get(name)
    if known is not None and known.const_value is not None:
        if np.array_equal(known.const_value.numpy(), tensor.numpy()):
            return known
        name = f"{name}_of_{layer.norm_2.node.name}"
    value = ir.val(name, const_value=tensor)
    graph.register_initializer(value)
    return value


def _graph_input(graph: ir.Graph, name: str) -> ir.Value:
    return next(value for value in graph.inputs if value.name == name)
