"""Eager attention -> the standard ONNX Attention operator, the fast path of the CPU engine."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from stcompile.compiler.passes._attention import bias
from stcompile.compiler.passes._attention_pattern import find_attention
from stcompile.compiler.passes._bent import bent
from stcompile.compiler.passes._heads import heads_of
from stcompile.compiler.passes.base import PassResult
from stcompile.compiler.passes.graph import finish, swap
from stcompile.compiler.passes.opset import obstacle, raise_opset

_BENT = "a soft cap bends the scores: ONNX Runtime's Attention adds the mask before it up to 1.26"


class FuseAttention:
    """Rewrites eager attention to `ai.onnx::Attention` and raises the model's opset to 23.

    Attention takes query, key and value as (batch, length, heads * size) and the sum of everything added
    to the scores as one (batch or 1, heads or 1, queries, keys) tensor of the same type, computed once for
    all layers that share it. Its result, softmax(scale * Q K^T + bias) V, is the eager one up to the order
    of float additions. https://onnx.ai/onnx/operators/onnx__Attention.html

    A query whose keys are all masked needs care: eager softmax gives the plain mean of the values, while
    the operator gives zero once every score is the type's lowest number (onnx/onnx#8068), which is what
    `transformers` masks with. So the bias is multiplied by the largest number below one first: zero stays
    zero, the lowest number becomes its neighbour, which masks as well, and a position bias moves by no
    more than a rounding.

    What is done to heads stands in front, in the standard's operators too: RMSNormalization, RotaryEmbedding, and an
    Expand where several heads of the query share one of key and value, for which ONNX Runtime 1.23.0 answers with NaN.

    Scores that a soft cap bends stay loose nodes behind these, one way of writing them for all networks (`_bent.py`).

    The whole model moves to opset 23 or nothing is rewritten: it must be at opset 20 to 23, because from 20
    on ONNX's own version converter has one operator that does not mean the same at 23, GroupNormalization.
    A graph with functions is refused, as they carry opsets of their own: inline them first.
    """

    name = "fuse-attention"

    def __call__(self, model: ir.Model) -> PassResult:
        rewrites = 0
        refusals: list[str] = []
        absent = "no eager attention occurs"
        barrier = obstacle(model)
        made: dict[tuple[object, ...], ir.Value] = {}
        raised: dict[ir.Value, ir.Value] = {}
        angles: dict[ir.Value, ir.Value] = {}
        for match in find_attention(model.graph, refusals):
            if barrier is not None:
                return finish(model, 0, [barrier], absent)
            if match.soft_cap is not None:
                refusals.append(_BENT)
                if match.is_plain:
                    continue
            mask = bias(model.graph, match, made)
            if mask is not None and match.soft_cap is None:
                if mask not in raised:
                    raised[mask] = _above_lowest(model.graph, match.merge, mask)
                mask = raised[mask]
            parts = heads_of(model.graph, match, angles)
            if match.soft_cap is None:
                fused = ir.node(
                    "Attention",
                    [*parts, *([] if mask is None else [mask])],
                    attributes={"q_num_heads": match.heads, "kv_num_heads": match.heads, "scale": match.scale},
                )
            else:
                fused = bent(model.graph, match, parts, mask)
            swap(model.graph, match.merge, fused)
            raise_opset(model)
            rewrites += 1
        return finish(model, rewrites, refusals, absent)


def _above_lowest(graph: ir.Graph, before: ir.Node, mask: ir.Value) -> ir.Value:
    assert mask.dtype is not None  # find_attention refuses an unknown type
    factor = np.nextafter(np.ones((), mask.dtype.numpy()), 0)
    below_one = ir.node("Constant", [], attributes={"value": ir.tensor(factor, dtype=mask.dtype)})
    product = ir.node("Mul", [mask, below_one.outputs[0]])
    product.outputs[0].type, product.outputs[0].shape = mask.type, mask.shape
    graph.insert_before(before, [below_one, product])
    return product.outputs[0]
