"""Encoder layers as one operator each, of the package's own: what `native/operators.cpp` computes.

Weights are stored as its kernels read them, in panels of 64 columns; the scale of the scores, and the base 2 of the
kernel's exponentials, are in those of the queries.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from stcompile.compiler.passes.encoder_layers import PANEL, EncoderLayer, Linear, find_encoder_layers
from stcompile.compiler.passes.graph import swap, weight_of
from stcompile.compiler.passes.padding_mask import ATTENTION_MASK, proofs
from stcompile.errors import UnsupportedError
from stcompile.kernels.native import DOMAIN

_VERSION = 1


@dataclass(frozen=True)
class Packed:
    """One linear layer for an operator: its inputs by name, and its attributes."""

    inputs: Mapping[str, NDArray[np.generic] | ir.TensorProtocol]
    attributes: Mapping[str, int | float]


# A linear layer of an encoder layer, by the operator's name for it: one, or queries, keys and values side by side.
Pack = Callable[[str, Sequence[Linear], NDArray[np.float32]], Packed]


def fusable_layers(model: ir.Model) -> tuple[list[EncoderLayer], tuple[str, ...]]:
    """The encoder layers of a float32 graph that one operator can compute, and why others are none.

    Returns:
        the layers in order, and one sentence for each reason that something nearly was one.
    """
    refusals: list[str] = []
    found = list(find_encoder_layers(model.graph, refusals))
    proved = proofs(model, [layer.mask for layer in found])
    if not all(proof.hides_padding for proof in proved.values()):
        refusals.append("more than padding and relative positions is added to the scores (a window, for one)")
    if not found and not refusals:
        refusals.append("it has no attention")
    layers = [
        dataclasses.replace(layer, bias=proved[layer.mask].bias) for layer in found if proved[layer.mask].hides_padding
    ]
    return layers, tuple(dict.fromkeys(refusals))


def checked_layers(model: ir.Model, instead: str) -> tuple[list[EncoderLayer], tuple[str, ...]]:
    """`fusable_layers`, at least one.

    Raises:
        UnsupportedError: there is none.
    """
    layers, refusals = fusable_layers(model)
    if not layers:
        raise UnsupportedError(
            "this model", *(f"no encoder layer can be fused ({why}): use {instead}" for why in refusals)
        )
    return layers, refusals


def unfused(model: ir.Model, refusals: Sequence[str]) -> tuple[str, ...]:
    """What the report says of layers that stayed as they were."""
    left = sum(node.op_type == "Attention" for node in model.graph)
    why = "; ".join(refusals) or "a linear layer of it is kept in float32, or read elsewhere too"
    return (f"{left} encoder layers not fused: {why}",) if left else ()


def write_layer(model: ir.Model, layer: EncoderLayer, op_type: str, pack: Pack) -> None:
    """Puts the operator in the place of a layer."""
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
        "hidden": layer.width,
        "intermediate": len(layer.up.bias),
        "epsilon_1": layer.norm_1.epsilon,
        "epsilon_2": layer.norm_2.epsilon,
    }
    for name, (linears, factors) in parts.items():
        packed = pack(name, linears, factors)
        attributes |= packed.attributes
        label = f"{weight_of(linears[0].node).name}_{name}"
        inputs += [_initializer(graph, f"{label}_{part}", array, layer) for part, array in packed.inputs.items()]
    for norm in (layer.norm_1, layer.norm_2):
        inputs += [norm.gain, norm.bias]
    inputs += [] if layer.bias is None else [layer.bias]
    node = ir.node(op_type, inputs, attributes, domain=DOMAIN, name=f"{layer.norm_2.node.name}_layer")
    graph.opset_imports[DOMAIN] = _VERSION
    swap(graph, layer.norm_2.node, node)


def panels(weight: NDArray[np.generic], word: int) -> NDArray[np.generic]:
    """`(in, out)` as `(out / 64, in / word, 64, word)`: `word` neighbours of each column behind each other."""
    rows, columns = weight.shape
    return np.ascontiguousarray(weight.reshape(rows // word, word, columns // PANEL, PANEL).transpose(2, 0, 3, 1))


def biases(linears: Sequence[Linear], factors: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(out,)`, scaled."""
    joined: NDArray[np.float32] = np.concatenate([linear.bias for linear in linears]) * factors
    return joined


def _initializer(
    graph: ir.Graph, name: str, array: NDArray[np.generic] | ir.TensorProtocol, layer: EncoderLayer
) -> ir.Value:
    """The initializer of that name where it is the same, as in networks whose layers are one; otherwise a new one."""
    tensor = ir.tensor(array) if isinstance(array, np.ndarray) else array
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
