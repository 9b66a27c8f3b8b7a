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
from stcompile.compiler.passes._attention_pattern import find_attention
from stcompile.compiler.passes.constants import constant_named
from stcompile.compiler.passes.encoder_layers import (
    BEHIND,
    HEAD_STEP,
    PANEL,
    EncoderLayer,
    Linear,
    Norm,
    find_encoder_layers,
)
from stcompile.compiler.passes.graph import dims, input_named, swap, weight_of
from stcompile.compiler.passes.padding_mask import ATTENTION_MASK, MaskProof, marks_unseen, proofs
from stcompile.compiler.quantize.job import QuantizationJob
from stcompile.compiler.quantize.layer_bodies import LINEARS, PARTS, Kind, layer_body, told
from stcompile.kernels.native import DOMAIN

_VERSION = 1

# What the report calls it, among the passes.
_NAME = "encoder-layers"

# What an operator has where its node says nothing, and BERT's layers with it.
_OF_BERT: Mapping[str, Any] = {
    "normalization": "layer",
    "activation": "gelu",
    "gated": False,
    "half": None,
    "head_norms": False,
    "soft_cap": None,
}


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
    if not all(proof.is_known for proof in proved.values()):
        refusals.append("more than padding, a window and relative positions is added to the scores")
    if not found and not refusals:
        refusals.append("it has no attention of the kind that is known")
    hides = marks_unseen(model.graph)
    known = [layer for layer in found if proved[layer.mask].is_known]
    layers = [_proved(layer, proved[layer.mask], hides) for layer in known if _fits(layer, proved[layer.mask].bias)]
    if len(layers) < len(known):
        refusals.append("what is added to its scores is not of all its heads or of each")
    alike = [layer for layer in layers if kind_of(layer) == kind_of(layers[0])]
    if len(alike) < len(layers):
        refusals.append("it is made of other parts than the layers before it")
    return alike, tuple(dict.fromkeys(refusals))


def _fits(layer: EncoderLayer, bias: ir.Value | None) -> bool:
    shape = None if bias is None else dims(bias)
    return bias is None or (shape is not None and len(shape) == 4 and shape[1] in (1, layer.heads))


def _proved(layer: EncoderLayer, proof: MaskProof, hides: bool) -> EncoderLayer:
    window = proof.window
    return dataclasses.replace(layer, bias=proof.bias, before=window.before, after=window.after, hides_tokens=hides)


def kind_of(layer: EncoderLayer) -> Kind:
    """What all layers of a graph must have in common with this one."""
    return Kind(
        heads=layer.heads,
        key_heads=layer.key_heads,
        head_size=_head_size(layer),
        norms=layer.placement,
        normalization=layer.normalization,
        activation=layer.feed_forward.activation,
        gated=layer.feed_forward.gate is not None,
        half=None if layer.rotary is None else layer.rotary.half,
        head_norms=layer.head_norms is not None,
        biased=layer.bias is not None,
        hides_tokens=layer.hides_tokens,
        soft_cap=layer.soft_cap,
    )


def unfused(job: QuantizationJob) -> PassSummary:
    """What the report says of a graph of which no layer may become an operator."""
    return PassSummary(_NAME, 0, (job.unfused,))


def summary(model: ir.Model, written: int, refusals: Sequence[str]) -> PassSummary:
    """What the report says of layers that became operators, and of those that did not."""
    bent = (found for found in find_attention(model.graph, []) if found.soft_cap is not None)
    left = any(node.op_type == "Attention" for node in model.graph) or any(bent)
    why = refusals or ("a linear layer of it is kept in float32, or read elsewhere too",)
    return PassSummary(_NAME, written, tuple(why) if left or not written else ())


def write_layers(model: ir.Model, layers: Sequence[EncoderLayer], op_type: str, packs: Sequence[Pack]) -> None:
    """Puts the operator in the place of some layers of a graph, and its body beside the graph."""
    for layer, pack in zip(layers, packs, strict=True):
        _write_layer(model, layer, op_type, pack)
    RemoveUnusedNodesPass()(model)
    if layers:
        windows = any(layer.before is not None or layer.after is not None for layer in layers)
        body = layer_body(
            op_type,
            kind_of(layers[0]),
            model.graph.opset_imports[""],
            windows=windows,
            without_first_norm=any(layer.norms[0] is None for layer in layers),
        )
        model.functions[body.identifier()] = body


def _write_layer(model: ir.Model, layer: EncoderLayer, op_type: str, pack: Pack) -> None:
    graph = model.graph
    kind = kind_of(layer)
    inputs: list[ir.Value | None] = [layer.hidden, input_named(graph, ATTENTION_MASK)]
    attributes = _attributes(layer, kind)
    for name, linears in zip(LINEARS, layer.linears, strict=True):
        widths = [len(linear.bias) for linear in linears]
        factors = np.ones(sum(widths), dtype=np.float32)
        if name == "qkv" and layer.head_norms is None:
            factors[: widths[0]] = _score_scale(layer)
        packed = pack(linears, factors)
        rows = len(linears[0].weight)
        if name == "qkv":
            packed = _columns_by_heads(_halved(packed, layer), layer)
        elif name == "output":
            packed, rows = _rows_by_heads(packed, layer), layer.heads * kind.head_size
        attributes |= {f"{name}_{attribute}": value for attribute, value in packed.attributes.items()}
        label = f"{weight_of(linears[0].node).name}_{name}"
        shape = ir.Shape(panels_shape(rows, len(packed.columns["bias"]), packed.word))
        tensors: dict[str, ir.TensorProtocol] = {
            "panels": ir.LazyTensor(partial(_panels_of, packed), packed.dtype, shape),
            **{part: ir.tensor(array) for part, array in (*packed.columns.items(), *packed.rows.items())},
        }
        inputs += [_initializer(graph, f"{label}_{part}", tensors[part], layer) for part in PARTS[op_type]]
    first, second, *others = layer.norms
    for norm in (first or second, second):
        inputs += _norm_inputs(graph, norm, layer.width)
    found = _optional_inputs(graph, layer, kind, others)
    inputs += [found.get(name) for name in told(kind)]
    node = ir.node(op_type, inputs, attributes, domain=DOMAIN, name=f"{layer.end.name}_layer")
    graph.opset_imports[DOMAIN] = _VERSION
    swap(graph, layer.end, node)


def _attributes(layer: EncoderLayer, kind: Kind) -> dict[str, int | float | str]:
    """What a layer is made of. BERT's parts are what a node without a word about them has."""
    found: dict[str, int | float | str] = {
        "heads": kind.heads,
        "head_size": kind.head_size,
        "hidden": layer.width,
        "intermediate": len(layer.feed_forward.up.bias),
    }
    for number, norm in enumerate(layer.norms, start=1):
        found[f"epsilon_{number}"] = 0.0 if norm is None else norm.epsilon
    plain = dataclasses.replace(kind, **_OF_BERT, key_heads=kind.heads, norms=BEHIND)
    if kind == plain and layer.before is None and layer.after is None:
        return found
    found |= {
        "kv_heads": kind.key_heads,
        "norms": kind.norms,
        "normalization": kind.normalization,
        "first_norm": int(layer.norms[0] is not None),
        "activation": kind.activation,
        "gated": int(kind.gated),
        "before": -1 if layer.before is None else layer.before,
        "after": -1 if layer.after is None else layer.after,
    }
    if kind.soft_cap is not None:
        found["soft_cap"] = kind.soft_cap
    if layer.head_norms is not None:
        found["head_epsilon"] = layer.head_norms.epsilon * layer.size / kind.head_size
    return found


def _optional_inputs(
    graph: ir.Graph, layer: EncoderLayer, kind: Kind, others: Sequence[Norm | None]
) -> dict[str, ir.Value]:
    found: dict[str, ir.Value] = {}
    if layer.bias is not None:
        found["score_bias"] = layer.bias
    if layer.rotary is not None:
        found |= {"rotary_cos": layer.rotary.cos, "rotary_sin": layer.rotary.sin}
    if layer.head_norms is not None:
        # The mean is over the numbers that fill a head up, too, which are zeros.
        share = np.float32(math.sqrt(layer.size / kind.head_size))
        gains = {"query_gain": layer.head_norms.query * _score_scale(layer), "key_gain": layer.head_norms.key}
        for name, gain in gains.items():
            filled = _spread((gain * share)[_in_halves(layer)], 1, kind.head_size, 0).astype(np.float32)
            linear = layer.query if name == "query_gain" else layer.key
            found[name] = _initializer(graph, f"{weight_of(linear.node).name}_{name}", ir.tensor(filled), layer)
    for number, norm in enumerate(others, start=3):
        names = f"gain_{number}", f"shift_{number}"
        found |= dict(zip(names, _norm_inputs(graph, norm, layer.width), strict=True))
    return found


def _norm_inputs(graph: ir.Graph, norm: Norm | None, width: int) -> list[ir.Value]:
    """Gain and shift, which is zeros where there is none."""
    assert norm is not None  # only a layer's first may be absent, and then the second stands for it
    nothing = constant_named(graph, f"no_shift_{width}", np.zeros(width, dtype=np.float32))
    return [norm.gain, nothing if norm.shift is None else norm.shift]


def _score_scale(layer: EncoderLayer) -> np.float32:
    """Of queries: the scale of the scores, and the base 2 of the kernels' exponentials."""
    return np.float32(layer.scale * math.log2(math.e))


def _head_size(layer: EncoderLayer) -> int:
    """Of a head as the kernels take it: filled up with zeros where it has another size."""
    return -(-layer.size // HEAD_STEP) * HEAD_STEP


def _in_halves(layer: EncoderLayer) -> NDArray[np.int64]:
    """Numbers of a head in the order in which the i-th turns with the one `half` behind it, as the operators have it.

    Scores stay the same where queries and keys have their numbers in another order, as long as it is one.
    """
    order = np.arange(layer.size)
    if layer.rotary is not None and layer.rotary.interleaved:
        turning = 2 * layer.rotary.half
        order[:turning] = np.concatenate((order[:turning:2], order[1:turning:2]))
    return order


def _halved(packed: Packed, layer: EncoderLayer) -> Packed:
    if layer.rotary is None or not layer.rotary.interleaved:
        return packed
    every, values = layer.heads + 2 * layer.key_heads, layer.key_heads
    order = np.arange(every * layer.size).reshape(every, layer.size)
    order[:-values] = order[:-values, _in_halves(layer)]
    columns = order.reshape(-1)
    return dataclasses.replace(
        packed,
        weights=lambda: packed.weights()[:, columns],
        columns={name: array[columns] for name, array in packed.columns.items()},
    )


def _columns_by_heads(packed: Packed, layer: EncoderLayer) -> Packed:
    def spread(array: NDArray[Any], fill: float = 0) -> NDArray[Any]:
        return _spread(array, layer.heads + 2 * layer.key_heads, _head_size(layer), fill)

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
        name = f"{name}_of_{layer.end.name}"
    value = ir.val(name, const_value=tensor)
    graph.register_initializer(value)
    return value
