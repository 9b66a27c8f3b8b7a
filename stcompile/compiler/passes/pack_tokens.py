"""Tokens without padding between a graph's embeddings and its pooling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from stcompile.compiler.passes.base import PassResult
from stcompile.compiler.passes.constants import added, constant_named, integers
from stcompile.compiler.passes.graph import (
    MICROSOFT,
    Dim,
    NoMatch,
    dims,
    finish,
    input_named,
    is_contributed,
    operand,
    swap,
)
from stcompile.compiler.passes.padding_mask import ATTENTION_MASK, MaskProof, proofs
from stcompile.compiler.passes.token_wise import is_token_wise, over_last_axis

_SCORES_BIAS = 5  # the input of a MultiHeadAttention that is added to its scores
_TOKENS = "tokens"  # the axis of all texts' tokens, one text behind the other


class PackTokens:
    """Puts the tokens of all texts behind each other, `(tokens, hidden)`, and leaves their padding out.

    RemovePadding (version 1 of `com.microsoft`, as all that follow) takes the padding out of the first value that the
    attentions are made of token by token. From there on, what is token-wise computes `(tokens, width)` in place of
    `(batch, sequence, width)`; MultiHeadAttention becomes PackedMultiHeadAttention; in front of everything else stands
    RestorePadding, which pads with 0. A relative position bias stays, `(1, heads, sequence, sequence)`.

    Texts must be padded on the right. What is added to the scores is proved to hide padding and nothing else by running
    the graph: causal and local attention are refused. A text of nothing but padding keeps its first position, for the
    operators know no empty text. Only CUDA has kernels for them.
    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
    """

    name = "pack-tokens"
    absent = "no fused attention occurs"

    def __call__(self, model: ir.Model) -> PassResult:
        refusals: list[str] = []
        biases = _packable(model, refusals)
        rewrites = 0
        if biases:
            root = _root(next(iter(biases)))
            inner = _inner(model.graph, root, biases)
            refusals += ["query, key and value are not made token by token of one value"] * bool(biases.keys() - inner)
            rewrites = len(biases.keys() & inner)
            if rewrites:
                _leave_padding_out(model.graph, root, inner, biases)
        return finish(model, rewrites, refusals, self.absent)


_Biases = dict[ir.Node, ir.Value | None]


def _packable(model: ir.Model, refusals: list[str]) -> _Biases:
    """The self-attentions that hide nothing but padding, and the position bias that each keeps."""
    masks = {node: operand(node, _SCORES_BIAS) for node in model.graph if is_contributed(node, "MultiHeadAttention")}
    proved = proofs(model, [mask for mask in masks.values() if mask is not None])
    found: _Biases = {}
    for node, mask in masks.items():
        try:
            found[node] = _position_bias(node, None if mask is None else proved[mask])
        except NoMatch as reason:
            refusals.append(str(reason))
    return found


def _position_bias(node: ir.Node, proof: MaskProof | None) -> ir.Value | None:
    """The bias of positions that an attention keeps without its padding, of the shape that the operator takes."""
    if proof is None:
        raise NoMatch("the attention hides nothing: padding takes part in it")
    if not proof.hides_padding:
        raise NoMatch("the attention hides more than padding (causal or local attention), or padding only in part")
    rows = _leading_dims(node.inputs[0])
    if rows is None:
        raise NoMatch("the query is not known to be (batch, sequence, hidden)")
    if proof.bias is not None:
        batch, heads, queries, keys = dims(proof.bias) or (None,) * 4
        expected = (node.attributes.get_int("num_heads"), rows[1], rows[1])
        if batch not in (1, rows[0]) or (heads, queries, keys) != expected:
            raise NoMatch("the bias of positions is not known to be (1 or batch, heads, sequence, sequence)")
    return proof.bias


def _leading_dims(value: ir.Value | None) -> tuple[Dim, ...] | None:
    """The first two axes of `(batch, sequence, width)`; None for anything else."""
    found = None if value is None else dims(value)
    return found[:2] if found is not None and len(found) == 3 and None not in found[:2] else None


def _root(attention: ir.Node) -> ir.Value:
    """The earliest value that the query is made of token by token, and of no other."""
    query = attention.inputs[0]
    assert query is not None  # the operator's one input that is not optional
    reached = [query]
    for value in reached:
        reached += [source for source in _sources(value, _leading_dims(query)) if source not in reached]
    return next(value for value in reversed(reached) if _makes(value, query))


def _sources(value: ir.Value, rows: tuple[Dim, ...] | None) -> list[ir.Value]:
    """What a token-wise node makes a value of; nothing where another node does."""
    node = value.producer()
    if node is None or rows is None:
        return []
    found = [source for source in node.inputs if source is not None and _leading_dims(source) == rows]
    return found if is_token_wise(node, found) else []


def _makes(root: ir.Value, value: ir.Value) -> bool:
    """Whether a value is made of `root` and of nothing beside it, token by token."""
    seen = [value]
    for item in seen:
        if item is root:
            continue
        found = _sources(item, _leading_dims(value))
        if not found:
            return False
        seen += [source for source in found if source not in seen]
    return True


def _inner(graph: ir.Graph, root: ir.Value, biases: _Biases) -> set[ir.Node]:
    """The nodes that can compute packed tokens."""
    tokens, inner = {root}, set()
    for node in graph:
        fits = all(value in tokens for value in node.inputs[:3]) if node in biases else is_token_wise(node, tokens)
        if fits:
            inner.add(node)
            tokens.update(node.outputs)
    return inner


@dataclass(frozen=True)
class _Packed:
    """What RemovePadding makes.

    Attributes:
        tokens: `(tokens, width)`.
        offsets: where each of them was, then where the padding was, int32 `(batch, sequence)`.
        ends: how many tokens the texts up to each one have together, int32 `(batch + 1,)`.
    """

    tokens: ir.Value
    offsets: ir.Value
    ends: ir.Value


def _leave_padding_out(graph: ir.Graph, root: ir.Value, inner: set[ir.Node], biases: _Biases) -> None:
    order = [node for node in graph if node in inner]
    packed = _without_padding(graph, root, order[0])
    made: list[ir.Value] = []
    done: set[ir.Node] = set()
    for node in order:
        for index, value in enumerate(node.inputs):
            if value is root:
                node.replace_input_with(index, packed.tokens)
        kept = _attention(graph, node, packed, biases[node]) if node in biases else node
        over_last_axis(graph, kept)
        done.add(kept)
        made.extend(kept.outputs)
    for value in made:
        _restore(graph, value, packed, done)
        # Every value that a node outside reads has been given back its padding by now.
        value.shape = None if value.shape is None else ir.Shape([_TOKENS, value.shape[2]])


def _without_padding(graph: ir.Graph, root: ir.Value, before: ir.Node) -> _Packed:
    mask = input_named(graph, ATTENTION_MASK)
    one = constant_named(graph, "int32_1", np.array(1, dtype=np.int32))
    kept = added(graph, before, "Cast", [mask], "kept_tokens", {"to": ir.DataType.INT32})
    counted = added(graph, before, "ReduceSum", [kept, integers(graph, "axes_1", [1])], "tokens", {"keepdims": 0})
    some = added(graph, before, "Max", [counted, one], "tokens_or_one")
    node = ir.node("RemovePadding", [root, some], domain=MICROSOFT, num_outputs=4, name="RemovePadding")
    graph.insert_before(before, node)
    graph.opset_imports.setdefault(MICROSOFT, 1)
    tokens, offsets, ends, longest = node.outputs
    batch, sequence, width = dims(root) or ()
    tokens.type, tokens.shape = root.type, ir.Shape([_TOKENS, width])
    offsets.shape, longest.shape = ir.Shape([batch, sequence]), ir.Shape([1])
    for value in (kept, counted, some, offsets, ends, longest):
        value.dtype = ir.DataType.INT32
    for value, name in zip(node.outputs, ("packed_tokens", "token_offsets", "text_ends", "longest_text"), strict=True):
        value.name = name
    return _Packed(tokens, offsets, ends)


def _attention(graph: ir.Graph, node: ir.Node, packed: _Packed, bias: ir.Value | None) -> ir.Node:
    fused = ir.node(
        "PackedMultiHeadAttention",
        [*node.inputs[:3], None, packed.offsets, packed.ends, *([] if bias is None else [bias])],
        attributes={name: node.attributes[name] for name in ("num_heads", "scale")},
        domain=MICROSOFT,
        name=f"Packed{node.name}",
    )
    swap(graph, node, fused)
    return fused


def _restore(graph: ir.Graph, value: ir.Value, packed: _Packed, inner: set[ir.Node]) -> None:
    """Puts RestorePadding between a value and what reads it with its padding."""
    outside = [use for use in value.uses() if use.node not in inner]
    if not outside and not value.is_graph_output():
        return
    node = ir.node("RestorePadding", [value, packed.offsets], domain=MICROSOFT, name=f"RestorePadding_{value.name}")
    restored = node.outputs[0]
    restored.type, restored.shape, restored.name = value.type, value.shape, f"{value.name}_padded"
    last = value.producer()
    assert last is not None  # a node of the packed part made it
    graph.insert_after(last, node)
    for use in outside:
        use.node.replace_input_with(use.idx, restored)
    for index, output in enumerate(graph.outputs):
        if output is value:
            restored.name, value.name = value.name, f"{value.name}_packed"
            graph.outputs[index] = restored
