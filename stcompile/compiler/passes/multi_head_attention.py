"""Eager attention -> com.microsoft.MultiHeadAttention, the fast path of the CUDA engine."""

from __future__ import annotations

import onnx_ir as ir

from stcompile.compiler.passes._attention import Attention, bias
from stcompile.compiler.passes._attention_pattern import find_attention
from stcompile.compiler.passes._heads import CONTRIBUTED, heads_of
from stcompile.compiler.passes.base import PassResult
from stcompile.compiler.passes.graph import MICROSOFT, dims, finish, swap


class FuseMultiHeadAttention:
    """Rewrites eager attention to `com.microsoft::MultiHeadAttention` (version 1).

    Inputs are query, key and value as (batch, length, heads * size) and, as `attention_bias`, everything
    added to the scores: (batch or 1, heads or 1, queries, keys), of the same type, computed once for all
    layers that share it. The result is the eager one up to the order of float additions, fully masked rows
    included.

    What is done to heads stands in front, in operators of ONNX Runtime's own too: SimplifiedLayerNormalization,
    `com.microsoft::RotaryEmbedding`, and an Expand where several heads of the query share one of key and value.
    GroupQueryAttention would take them unrepeated, but its CUDA kernel is causal, knows neither float32 nor anything
    that is added to the scores, and pads on the right.

    The opset of the model stays: of what opset 21 and 23 changed, Reshape and Shape among others, ONNX Runtime 1.23 has
    kernels on a GPU for the opsets before alone (microsoft/onnxruntime#26065).
    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
    """

    name = "fuse-multi-head-attention"
    absent = "no eager attention occurs"

    def __call__(self, model: ir.Model) -> PassResult:
        rewrites = 0
        refusals: list[str] = []
        made: dict[tuple[object, ...], ir.Value] = {}
        angles: dict[ir.Value, ir.Value] = {}
        for match in find_attention(model.graph, refusals):
            if reason := _beyond(match):
                refusals.append(reason)
                continue
            mask = bias(model.graph, match, made)
            parts = heads_of(model.graph, match, angles, CONTRIBUTED)
            fused = ir.node(
                "MultiHeadAttention",
                # the projections' bias and the key padding mask are left out: both are already applied
                [*parts, *([] if mask is None else [None, None, mask])],
                attributes={"num_heads": match.heads, "scale": match.scale},
                domain=MICROSOFT,
            )
            swap(model.graph, match.merge, fused)
            model.graph.opset_imports.setdefault(MICROSOFT, 1)
            rewrites += 1
        return finish(model, rewrites, refusals, self.absent)


def _beyond(match: Attention) -> str | None:
    """Why the operator does not compute an attention, or None."""
    if match.soft_cap is not None:
        return "a soft cap bends the scores before the mask is added"
    if match.rotary is not None and (dims(match.rotary.cos) or (None,))[0] != 1:
        return "rotary position embeddings turn the heads of each text by angles of its own"
    return None
