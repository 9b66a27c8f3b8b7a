"""Finds the layers of encoders and decoders, for every recipe that computes one in a single operator.

A layer of Vaswani et al. (2017) is described by its parts:

    a = h + attention(h);  y = a + feed_forward(a)

- norms: behind both sums (post-norm: BERT and its kin), before attention and network (pre-norm: ModernBERT, Qwen3,
  LLaMA), or before and behind them (Gemma 3); LayerNormalization or RMSNormalization. ModernBERT's first layer lacks
  the first one.
- attention: heads that may be normalized and turned by rotary position embeddings, keys and values for several heads of
  the query, a bias of positions; `padding_mask.py` proves what the mask is.
- feed-forward network: GELU, SiLU or ReLU of one linear layer, multiplied by another where it is gated.

A match proves that nothing else reads what is computed on the way: what cannot be proved is refused in a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from stcompile.compiler.passes._attention import Attention
from stcompile.compiler.passes._attention_pattern import find_attention
from stcompile.compiler.passes.graph import (
    NoMatch,
    bias_add,
    constant,
    dims,
    is_op,
    matches,
    only_user,
    operand,
    reader_of,
)

Array = NDArray[np.float32]

# What the operators' kernels take at once: columns of a panel of weights, numbers of a row, and of a head. The last
# panel and each head are filled up.
PANEL = 64
ROW_STEP = 8
HEAD_STEP = 16

# What an Attention may be told.
_PLAIN = frozenset(("q_num_heads", "kv_num_heads", "scale"))

# Where norms stand, and what they are, as the operators have it.
BEHIND, BEFORE, AROUND = "after", "before", "around"
_NORMALIZATIONS = {"LayerNormalization": "layer", "RMSNormalization": "rms"}
_GELUS = {"none": "gelu", "tanh": "gelu_tanh"}
_EPSILON = 1e-5  # ONNX's own

_NO_POST_NORM = "no post-norm layer"


@dataclass(frozen=True, eq=False)
class Linear:
    """x W + b: the MatMul, its weight `(in, out)` and its bias `(out,)`, zeros where there is none."""

    node: ir.Node
    weight: Array
    bias: Array
    result: ir.Value


@dataclass(frozen=True, eq=False)
class Norm:
    """A LayerNormalization or RMSNormalization over the last axis: gain, and shift if it has one, `(hidden,)`."""

    node: ir.Node
    gain: ir.Value
    shift: ir.Value | None
    epsilon: float


@dataclass(frozen=True)
class Rotary:
    """What turns heads of query and key: cos and sin `(batch, sequence, half)`; interleaved, neighbours together."""

    cos: ir.Value
    sin: ir.Value
    half: int
    interleaved: bool


@dataclass(frozen=True, eq=False)
class HeadNorms:
    """RMS normalization of each head of query and key: gains `(size,)`."""

    query: Array
    key: Array
    epsilon: float


@dataclass(frozen=True, eq=False)
class FeedForward:
    """down(activation(up x)), or down(activation(gate x) * up x)."""

    gate: Linear | None
    up: Linear
    down: Linear
    activation: str


@dataclass(frozen=True, eq=False)
class EncoderLayer:
    """One layer.

    Attributes:
        query, key, value, output: the linear layers of its attention.
        feed_forward: those of its feed-forward network.
        placement: where its norms stand: `after`, `before` or `around`.
        norms: first and second, and around third and fourth, which follow the attention and the feed-forward network;
            the first is None where attention reads what the layer reads.
        end: the node that makes what the layer makes.
        mask: what is added to the scores.
        heads: number of heads.
        key_heads: of key and value, each for as many neighbouring heads of the query.
        size: numbers of a head.
        scale: of the scores.
        soft_cap: below which scores are bent before anything is added; None where they are not.
        head_norms, rotary: what is done to the heads first, if anything.
        bias: the part of the mask that hides nothing, `(batch or 1, heads, queries, keys)`; None where there is none,
            or before it is known.
        before, after: how many positions before and behind its own a token sees; None for all.
        hides_tokens: whether some tokens are computed that no token sees.
    """

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    feed_forward: FeedForward
    placement: str
    norms: tuple[Norm | None, ...]
    end: ir.Node
    mask: ir.Value
    heads: int
    key_heads: int
    size: int
    scale: float
    soft_cap: float | None = None
    head_norms: HeadNorms | None = None
    rotary: Rotary | None = None
    bias: ir.Value | None = None
    before: int | None = None
    after: int | None = None
    hides_tokens: bool = False

    @property
    def width(self) -> int:
        """The hidden size."""
        return len(self.output.bias)

    @property
    def hidden(self) -> ir.Value:
        """What it reads now: another value once the layer before it was rewritten."""
        first = self.norms[0]
        node = self.query.node if first is None or self.placement == BEHIND else first.node
        value = node.inputs[0]
        assert value is not None  # a MatMul and a norm have it
        return value

    @property
    def normalization(self) -> str:
        """`layer` or `rms`."""
        return next(_NORMALIZATIONS[norm.node.op_type] for norm in self.norms if norm is not None)

    @property
    def linears(self) -> list[list[Linear]]:
        """Those that read one tensor, together: queries, keys and values; output; gate and up; down."""
        feed = self.feed_forward
        ups = [feed.up] if feed.gate is None else [feed.gate, feed.up]
        return [[self.query, self.key, self.value], [self.output], ups, [feed.down]]


def find_encoder_layers(graph: ir.Graph, refusals: list[str]) -> Iterator[EncoderLayer]:
    """Every layer of a float32 graph in which attention is fused, in its order.

    `refusals` collects, in sentences, why near misses are none.
    """
    yield from matches(graph, "Attention", _match, refusals)
    for found in find_attention(graph, []):
        if found.soft_cap is not None and found.is_plain:
            try:
                layer = _layer(_bent(found))
            except NoMatch as reason:
                refusals.append(str(reason))
            else:
                yield layer


@dataclass(frozen=True, eq=False)
class _Attended:
    """An attention: what it reads and makes, between 3-D tensors."""

    query: ir.Value | None
    key: ir.Value | None
    value: ir.Value | None
    mask: ir.Value
    heads: int
    scale: float
    soft_cap: float | None
    result: ir.Value


_NO_MASK = "the attention has no mask, or more inputs and outputs than one layer's"


def _match(attention: ir.Node) -> EncoderLayer:
    mask = operand(attention, 3)
    if mask is None or len(attention.inputs) > 4 or len(attention.outputs) > 1:
        raise NoMatch(_NO_MASK)
    if set(attention.attributes) - _PLAIN:
        raise NoMatch(f"the attention has {', '.join(sorted(set(attention.attributes) - _PLAIN))}")
    heads = attention.attributes.get_int("q_num_heads", 0)
    if attention.attributes.get_int("kv_num_heads", 0) != heads:
        raise NoMatch("query and key have different numbers of heads")
    query, key, value = (operand(attention, index) for index in range(3))
    scale = attention.attributes.get_float("scale", 0.0)
    return _layer(_Attended(query, key, value, mask, heads, scale, None, attention.outputs[0]))


def _bent(found: Attention) -> _Attended:
    """An attention with a soft cap, which no operator of the standard computes: its nodes are loose."""
    if len(found.addends) != 1:
        raise NoMatch(_NO_MASK)
    sources = found.query, found.key, found.value
    return _Attended(*sources, found.addends[0], found.heads, found.scale, found.soft_cap, found.merge.outputs[0])


def _layer(attended: _Attended) -> EncoderLayer:
    query, key, value = (_Heads(part, attended.heads) for part in (attended.query, attended.key, attended.value))
    read = query.linear.node.inputs[0]
    if read is None or any(other.linear.node.inputs[0] is not read for other in (key, value)):
        raise NoMatch("query, key and value are not made of the same hidden states")
    output = _linear_on(attended.result, "attention")
    third = _norm_on(output.result)
    made_there = output.result if third is None else third.node.outputs[0]
    total = _sum_on(made_there, "attention")
    residual = _other(total, made_there)
    behind = _norm_on(total.outputs[0]) if third is None and residual is read else None
    first: Norm | None = behind
    if behind is not None:
        placement = BEHIND
        middle = behind.node.outputs[0]
    else:
        placement = BEFORE if third is None else AROUND
        first = _norm_of(read, residual)
        middle = total.outputs[0]
    second: Norm | None = None if placement == BEHIND else _norm_beside(middle)
    feed = _feed_forward(middle if second is None else second.node.outputs[0], beside_sum=second is None)
    fourth = _norm_on(feed.down.result) if placement == AROUND else None
    made = feed.down.result if fourth is None else fourth.node.outputs[0]
    last = _sum_on(made, "feed-forward network")
    if _other(last, made) is not middle:
        raise NoMatch(
            f"what the feed-forward network makes is not added to what the attention's sum made ({_NO_POST_NORM})"
        )
    end = last
    if placement == BEHIND:
        second = _norm_on(last.outputs[0])
        if second is None:
            raise NoMatch(f"no normalization follows the feed-forward network's sum ({_NO_POST_NORM})")
        end = second.node
    if placement == AROUND and fourth is None:
        raise NoMatch("a norm follows the attention and none the feed-forward network")
    norms = (first, second, third, fourth) if placement == AROUND else (first, second)
    layer = EncoderLayer(
        query.linear,
        key.linear,
        value.linear,
        output,
        feed,
        placement,
        norms,
        end,
        attended.mask,
        attended.heads,
        key.count,
        query.size,
        attended.scale,
        attended.soft_cap,
        _head_norms(query, key),
        _same_rotary(query, key, value),
    )
    _check_sizes(layer, value)
    return layer


def _check_sizes(layer: EncoderLayer, value: _Heads) -> None:
    width, wide = layer.width, len(layer.feed_forward.up.bias)
    attended, shared = layer.heads * layer.size, layer.key_heads * layer.size
    if layer.query.weight.shape != (width, attended) or layer.output.weight.shape != (attended, width):
        raise NoMatch("queries are not as wide as what follows the attention")
    if (
        any(linear.weight.shape != (width, shared) for linear in (layer.key, layer.value))
        or value.count != layer.key_heads
    ):
        raise NoMatch("heads of keys and values are not as wide as those of queries")
    _, _, ups, (down,) = layer.linears
    if any(up.weight.shape != (width, wide) for up in ups) or down.weight.shape != (wide, width):
        raise NoMatch("the feed-forward network does not lead back to the hidden size")
    if layer.scale <= 0:
        raise NoMatch("the scores have no scale")
    if width % ROW_STEP or wide % ROW_STEP:
        raise NoMatch(f"the sizes {width} and {wide} are not both multiples of {ROW_STEP}")
    if len({norm.node.op_type for norm in layer.norms if norm is not None}) != 1:
        raise NoMatch("its norms are of different kinds")
    if layer.placement == BEHIND and layer.normalization != "layer":
        raise NoMatch(f"RMSNormalization follows its sums, not a layer normalization ({_NO_POST_NORM})")


class _Heads:
    """Queries, keys or values as an Attention reads them, walked back to the linear layer that makes them.

    Attributes:
        linear: that layer.
        count: heads that it makes.
        size: numbers of each.
        gain, epsilon: of the RMS normalization of each head; None where there is none.
        rotary: what turns them; None where nothing does.
    """

    def __init__(self, value: ir.Value | None, heads: int) -> None:
        width = None if value is None else (dims(value) or (None,))[-1]
        if value is None or not isinstance(width, int) or heads < 1 or width % heads:
            raise NoMatch("queries, keys or values are not known to be shared evenly by their heads")
        self.size = width // heads
        self.count = heads
        self.gain: Array | None = None
        self.epsilon = 0.0
        self.rotary: Rotary | None = None
        self.linear = _linear_of(self._normalized(self._turned(self._repeated(value))))

    def _repeated(self, value: ir.Value) -> ir.Value:
        flat = value.producer()
        wide = flat.inputs[0] if flat is not None and is_op(flat, "Reshape") else None
        expand = None if wide is None else wide.producer()
        apart = expand.inputs[0] if expand is not None and is_op(expand, "Expand") else None
        reshape = None if apart is None else apart.producer()
        if reshape is None or apart is None or wide is None or not is_op(reshape, "Reshape"):
            return value
        few = dims(apart) or ()
        if len(few) != 5 or few[3] != 1 or few[4] != self.size or (dims(wide) or ())[2:3] != few[2:3]:
            raise NoMatch("keys or values are repeated in a way that is not known")
        _checked(value, wide, apart)
        source, count = reshape.inputs[0], few[2]
        if source is None or not isinstance(count, int) or self.count % count:
            raise NoMatch("keys or values are repeated in a way that is not known")
        self.count = count
        return source

    def _turned(self, value: ir.Value) -> ir.Value:
        node = value.producer()
        if node is None or not is_op(node, "RotaryEmbedding"):
            return value
        _checked(value)
        source, cos, sin = (operand(node, index) for index in range(3))
        half = None if cos is None else (dims(cos) or (None,))[-1]
        if source is None or cos is None or sin is None or not isinstance(half, int) or len(node.inputs) > 3:
            raise NoMatch("heads are turned in a way that is not known")
        if node.attributes.get_int("num_heads", 0) != self.count:
            raise NoMatch("heads are turned in a way that is not known")
        self.rotary = Rotary(cos, sin, half, bool(node.attributes.get_int("interleaved", 0)))
        return source

    def _normalized(self, value: ir.Value) -> ir.Value:
        flat = value.producer()
        normal = flat.inputs[0] if flat is not None and is_op(flat, "Reshape") else None
        norm = None if normal is None else normal.producer()
        if norm is None or normal is None or not is_op(norm, "RMSNormalization"):
            return value
        apart, gain = norm.inputs[0], constant(operand(norm, 1))
        reshape = None if apart is None else apart.producer()
        if (
            apart is None
            or reshape is None
            or not is_op(reshape, "Reshape")
            or gain is None
            or gain.shape != (self.size,)
        ):
            raise NoMatch("heads are normalized in a way that is not known")
        if (dims(apart) or ())[2:] != (self.count, self.size) or norm.attributes.get_int("axis", -1) not in (-1, 3):
            raise NoMatch("heads are normalized in a way that is not known")
        _checked(value, normal, apart)
        self.gain, self.epsilon = gain.astype(np.float32, copy=False), norm.attributes.get_float("epsilon", _EPSILON)
        source = reshape.inputs[0]
        assert source is not None  # a Reshape has it
        return source


def _checked(*values: ir.Value) -> None:
    if any(only_user(value) is None for value in values):
        raise NoMatch("queries, keys or values are used elsewhere too")


def _head_norms(query: _Heads, key: _Heads) -> HeadNorms | None:
    if query.gain is None and key.gain is None:
        return None
    if query.gain is None or key.gain is None or query.epsilon != key.epsilon:
        raise NoMatch("heads of queries and keys are not normalized alike")
    return HeadNorms(query.gain, key.gain, query.epsilon)


def _same_rotary(query: _Heads, key: _Heads, value: _Heads) -> Rotary | None:
    if value.gain is not None or value.rotary is not None:
        raise NoMatch("values are normalized or turned")
    if query.rotary != key.rotary:
        raise NoMatch("query and key are turned by different rotary position embeddings")
    return query.rotary


def _linear_of(value: ir.Value) -> Linear:
    """The linear layer that makes `value` and nothing else."""
    node = value.producer()
    if node is None or only_user(value) is None:
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
    node = reader_of(value, f"what the {what} makes")
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


def _norm_on(value: ir.Value) -> Norm | None:
    """The normalization that alone reads `value`."""
    node = only_user(value)
    return None if node is None else _norm(node)


def _norm_of(value: ir.Value, residual: ir.Value) -> Norm | None:
    """The normalization of `residual` that makes `value`; None where they are the same."""
    if value is residual:
        return None
    node = value.producer()
    norm = None if node is None or operand(node, 0) is not residual else _norm(node)
    if norm is None:
        raise NoMatch(
            f"what the attention makes is not added to what it read, nor to what a norm read ({_NO_POST_NORM})"
        )
    if len({use.node for use in value.uses()}) != 3 or value.is_graph_output():
        raise NoMatch("what is normalized for the attention is used elsewhere too")
    return norm


def _norm_beside(value: ir.Value) -> Norm:
    """The normalization that reads `value` beside the sum behind it."""
    norms = [norm for use in value.uses() if (norm := _norm(use.node)) is not None]
    if len(norms) != 1 or len({use.node for use in value.uses()}) != 2 or value.is_graph_output():
        raise NoMatch("the sum behind the attention is not read by one norm and the next sum alone")
    return norms[0]


def _norm(node: ir.Node) -> Norm | None:
    if not is_op(node, *_NORMALIZATIONS):
        return None
    gain, shift = operand(node, 1), operand(node, 2)
    if node.attributes.get_int("axis", -1) not in (-1, 2) or len(node.outputs) > 1:
        raise NoMatch("a norm is not over the hidden size alone")
    if gain is None or constant(gain) is None or (shift is not None and constant(shift) is None):
        raise NoMatch("a norm lacks a constant gain, or has a shift that is none")
    return Norm(node, gain, shift, node.attributes.get_float("epsilon", _EPSILON))


def _sum_on(value: ir.Value, what: str) -> ir.Node:
    total = reader_of(value, f"what the {what} makes")
    if not is_op(total, "Add"):
        raise NoMatch(f"{total.op_type} follows the {what} where a sum was expected ({_NO_POST_NORM})")
    return total


def _other(total: ir.Node, value: ir.Value) -> ir.Value:
    found = [entry for entry in total.inputs if entry is not None and entry is not value]
    if len(found) != 1:
        raise NoMatch("something is added to itself")
    return found[0]


def _feed_forward(read: ir.Value, *, beside_sum: bool) -> FeedForward:
    """The network that reads a value; a sum may read it beside, and nothing else."""
    readers = list(dict.fromkeys(use.node for use in read.uses()))
    linears = [_linear(node) for node in readers if is_op(node, "MatMul") and operand(node, 0) is read]
    if len(readers) != len(linears) + beside_sum or len(linears) not in (1, 2) or read.is_graph_output():
        raise NoMatch("what the feed-forward network reads is used elsewhere too")
    for first in linears:
        found = _activation(first.result)
        others = [linear for linear in linears if linear is not first]
        if found is None:
            continue
        activation, active = found
        if not others:
            return FeedForward(None, first, _linear_on(active, "feed-forward network"), activation)
        product = only_user(active)
        if product is not None and product is only_user(others[0].result) and is_op(product, "Mul"):
            return FeedForward(first, others[0], _linear_on(product.outputs[0], "feed-forward network"), activation)
    behind = [use.node.op_type for linear in linears for use in linear.result.uses()]
    raise NoMatch(f"the feed-forward network's activation is {', '.join(behind)}, not one that is known")


def _activation(value: ir.Value) -> tuple[str, ir.Value] | None:
    """Which activation is all that reads a value, and what it makes."""
    node = only_user(value)
    if node is not None and is_op(node, "Gelu"):
        return _GELUS[node.attributes.get_string("approximate", "none")], node.outputs[0]
    if node is not None and is_op(node, "Relu"):
        return "relu", node.outputs[0]
    users = [use.node for use in value.uses()]
    sigmoid = next((user for user in users if is_op(user, "Sigmoid")), None)
    product = None if sigmoid is None else only_user(sigmoid.outputs[0])
    if sigmoid is None or product is None or not is_op(product, "Mul") or {*users} != {sigmoid, product}:
        return None
    return "silu", product.outputs[0]
