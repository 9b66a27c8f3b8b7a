"""Finds the layers of BERT-like encoders, for every recipe that computes one in a single operator.

The pattern is the post-norm layer of Vaswani et al. (2017) as BERT, RoBERTa, XLM-R, DistilBERT and ELECTRA have it:

    a = LayerNorm(x + Attention(x Wq + b, x Wk + b, x Wv + b) Wo + b)
    y = LayerNorm(a + gelu(a W1 + b) W2 + b)

A match proves that nothing else reads what is computed on the way: what cannot be proved is refused in a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from stcompile.compiler.passes.graph import NoMatch, bias_add, constant, is_op, matches, only_user, operand

Array = NDArray[np.float32]

# What the operators' kernels take at once: columns of a panel of weights, numbers of a row, and of a head. The last
# panel and each head are filled up.
PANEL = 64
ROW_STEP = 8
HEAD_STEP = 16

# What an Attention may be told.
_PLAIN = frozenset(("q_num_heads", "kv_num_heads", "scale"))


@dataclass(frozen=True, eq=False)
class Linear:
    """x W + b: the MatMul, its weight `(in, out)` and its bias `(out,)`, zeros where there is none."""

    node: ir.Node
    weight: Array
    bias: Array
    result: ir.Value


@dataclass(frozen=True, eq=False)
class Norm:
    """A LayerNormalization over the last axis: gain and bias `(hidden,)`."""

    node: ir.Node
    gain: ir.Value
    bias: ir.Value
    epsilon: float


@dataclass(frozen=True, eq=False)
class EncoderLayer:
    """One layer.

    Attributes:
        query, key, value, output, up, down: its linear layers; the first three read what the layer reads.
        norm_1, norm_2: its layer normalizations; what the second makes is what the layer makes.
        mask: what is added to the scores.
        bias: the part of it that is no padding, `(batch or 1, heads, queries, keys)`; None where there is none, or
            before it is known.
        heads: number of heads.
        scale: of the scores.
    """

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    up: Linear
    down: Linear
    norm_1: Norm
    norm_2: Norm
    mask: ir.Value
    heads: int
    scale: float
    bias: ir.Value | None = None

    @property
    def width(self) -> int:
        """The hidden size."""
        return len(self.output.bias)


def find_encoder_layers(graph: ir.Graph, refusals: list[str]) -> Iterator[EncoderLayer]:
    """Every encoder layer of a float32 graph in which attention is fused, in its order.

    `refusals` collects, in sentences, why near misses are none.
    """
    return matches(graph, "Attention", _match, refusals)


def _match(attention: ir.Node) -> EncoderLayer:
    query, key, value = (_linear_of(operand(attention, index)) for index in range(3))
    hidden = query.node.inputs[0]
    if hidden is None or key.node.inputs[0] is not hidden or value.node.inputs[0] is not hidden:
        raise NoMatch("query, key and value are not made of the same hidden states")
    mask = operand(attention, 3)
    if mask is None or len(attention.inputs) > 4 or len(attention.outputs) > 1:
        raise NoMatch("the attention has no mask, or more inputs and outputs than one layer's")
    if set(attention.attributes) - _PLAIN:
        raise NoMatch(f"the attention has {', '.join(sorted(set(attention.attributes) - _PLAIN))}")
    output = _linear_on(attention.outputs[0], "attention")
    norm_1 = _norm_of_sum(output.result, hidden, "attention")
    middle = norm_1.node.outputs[0]
    readers = {use.node for use in middle.uses()}
    ups = [node for node in readers if is_op(node, "MatMul")]
    if len(readers) != 2 or len(ups) != 1 or middle.is_graph_output():
        raise NoMatch("the norm behind the attention is not read by a feed-forward network and its sum alone")
    up = _linear(ups[0])
    gelu = _only(up.result, "feed-forward network")
    if not is_op(gelu, "Gelu") or gelu.attributes.get_string("approximate", "none") != "none":
        raise NoMatch(f"the feed-forward network's activation is {gelu.op_type}, not the exact Gelu")
    down = _linear_on(gelu.outputs[0], "feed-forward network")
    norm_2 = _norm_of_sum(down.result, middle, "feed-forward network")
    heads, scale = attention.attributes.get_int("q_num_heads", 0), attention.attributes.get_float("scale", 0.0)
    layer = EncoderLayer(query, key, value, output, up, down, norm_1, norm_2, mask, heads, scale)
    _check_sizes(layer, attention)
    return layer


def _check_sizes(layer: EncoderLayer, attention: ir.Node) -> None:
    width, wide = layer.width, len(layer.up.bias)
    squares = (layer.query, layer.key, layer.value, layer.output)
    if any(linear.weight.shape != (width, width) for linear in squares) or layer.heads < 1:
        raise NoMatch("queries, keys and values are not as wide as the hidden states")
    if layer.up.weight.shape != (width, wide) or layer.down.weight.shape != (wide, width):
        raise NoMatch("the feed-forward network does not lead back to the hidden size")
    if attention.attributes.get_int("kv_num_heads", 0) != layer.heads or layer.scale <= 0:
        raise NoMatch("query and key have different numbers of heads, or the scores no scale")
    if width % ROW_STEP or wide % ROW_STEP:
        raise NoMatch(f"the sizes {width} and {wide} are not both multiples of {ROW_STEP}")
    if width % layer.heads:
        raise NoMatch(f"{width} numbers are not shared evenly by {layer.heads} heads")


def _linear_of(value: ir.Value | None) -> Linear:
    """The linear layer that makes `value` and nothing else."""
    node = None if value is None else value.producer()
    if value is None or node is None or only_user(value) is None:
        raise NoMatch("queries, keys or values are used elsewhere too, or fed from outside")
    if is_op(node, "Add"):
        products = [entry for entry in node.inputs if entry is not None and is_op(entry.producer(), "MatMul")]
        node = products[0].producer() if len(products) == 1 else None
    if node is None or not is_op(node, "MatMul"):
        raise NoMatch("queries, keys or values are not made by one linear layer")
    linear = _linear(node)
    if linear.result is not value:
        raise NoMatch("something stands between a linear layer and the attention")
    return linear


def _linear_on(value: ir.Value, what: str) -> Linear:
    """The linear layer that alone reads `value`."""
    node = _only(value, what)
    if not is_op(node, "MatMul") or operand(node, 0) is not value:
        raise NoMatch(f"{node.op_type} follows the {what} where a linear layer was expected")
    return _linear(node)


def _linear(node: ir.Node) -> Linear:
    weight = constant(operand(node, 1))
    if weight is None or weight.ndim != 2 or weight.dtype != np.float32:
        raise NoMatch("a linear layer's weight is not a constant float32 matrix")
    out = weight.shape[1]
    end, added = bias_add(node, out)
    bias = np.zeros(out, dtype=np.float32) if added is None else constant(added)
    assert bias is not None  # bias_add finds constants only
    return Linear(node, weight.astype(np.float32, copy=False), bias.astype(np.float32, copy=False), end.outputs[0])


def _norm_of_sum(value: ir.Value, residual: ir.Value, what: str) -> Norm:
    """The LayerNormalization of `value + residual`."""
    total = _only(value, what)
    if not is_op(total, "Add") or {*total.inputs} != {value, residual}:
        raise NoMatch(f"what the {what} makes is not added to what it read (no post-norm layer)")
    norm = _only(total.outputs[0], f"sum behind the {what}")
    if not is_op(norm, "LayerNormalization") or norm.attributes.get_int("axis", -1) not in (-1, 2):
        raise NoMatch(f"{norm.op_type} follows the {what}'s sum, not a layer normalization (no post-norm layer)")
    gain, bias = operand(norm, 1), operand(norm, 2)
    if gain is None or bias is None or constant(gain) is None or constant(bias) is None or len(norm.outputs) > 1:
        raise NoMatch("a layer normalization lacks a constant gain or bias")
    return Norm(norm, gain, bias, norm.attributes.get_float("epsilon", 1e-5))


def _only(value: ir.Value, what: str) -> ir.Node:
    node = only_user(value)
    if node is None:
        raise NoMatch(f"what the {what} makes is used elsewhere too")
    return node
