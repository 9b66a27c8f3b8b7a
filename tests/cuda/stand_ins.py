"""ONNX Runtime's operators that only CUDA has, from their documentation, in numpy, for the reference evaluator.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from scipy.special import erf

from stcompile.compiler import request
from stcompile.runtime import engines

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


class RemovePadding(OpRun):
    op_domain = "com.microsoft"

    def _run(self, x: Floats, count: Ints) -> tuple[Floats, Ints, Ints, Ints]:
        batch, sequence, hidden = x.shape
        kept = (np.arange(sequence) < count[:, None]).reshape(-1)
        offsets = np.concatenate([np.flatnonzero(kept), np.flatnonzero(~kept)]).astype(np.int32)
        ends = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
        longest = np.array([count.max()], dtype=np.int32)
        return x.reshape(-1, hidden)[kept], offsets.reshape(batch, sequence), ends, longest


class RestorePadding(OpRun):
    op_domain = "com.microsoft"

    def _run(self, x: Floats, offsets: Ints) -> tuple[Floats]:
        rows = np.zeros((offsets.size, x.shape[1]), dtype=x.dtype)
        rows[offsets.reshape(-1)[: len(x)]] = x
        return (rows.reshape(*offsets.shape, x.shape[1]),)


def _attended(q: Floats, k: Floats, v: Floats, scale: float, bias: Floats | None) -> Floats:
    """Softmax(scale q k + bias) v, of `(..., tokens, heads, size)` each."""
    scores = np.einsum("...qhd,...khd->...hqk", q, k) * np.float32(scale)
    if bias is not None:
        scores = scores + bias
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    found: Floats = np.einsum("...hqk,...khd->...qhd", weights, v)
    return found


class PackedMultiHeadAttention(OpRun):
    op_domain = "com.microsoft"

    def _run(
        self,
        query: Floats,
        key: Floats,
        value: Floats,
        _: None,
        offsets: Ints,
        ends: Ints,
        bias: Floats | None = None,
        *,
        num_heads: int,
        scale: float,
    ) -> tuple[Floats]:
        assert len(query) == len(key) == len(value) == ends[-1]
        assert offsets.shape[0] == len(ends) - 1
        out = np.empty_like(value)
        for text, (start, end) in enumerate(pairwise(ends)):
            q, k, v = (part[start:end].reshape(end - start, num_heads, -1) for part in (query, key, value))
            added = None
            if bias is not None:
                assert bias.shape[0] in (1, offsets.shape[0])
                assert bias.shape[1:] == (num_heads, offsets.shape[1], offsets.shape[1])
                added = bias[text % len(bias), :, : end - start, : end - start]
            out[start:end] = _attended(q, k, v, scale, added).reshape(end - start, -1)
        return (out,)


class MultiHeadAttention(OpRun):
    op_domain = "com.microsoft"

    def _run(
        self,
        query: Floats,
        key: Floats,
        value: Floats,
        _: Any = None,  # left out, as the next: the evaluator gives what another operator's left out output was
        __: Any = None,
        bias: Floats | None = None,
        *,
        num_heads: int,
        scale: float,
    ) -> tuple[Floats]:
        q, k, v = (part.reshape(*part.shape[:2], num_heads, -1) for part in (query, key, value))
        return (_attended(q, k, v, scale, bias).reshape(*query.shape[:2], -1),)


class RotaryEmbedding(OpRun):
    op_domain = "com.microsoft"

    def _run(
        self,
        x: Floats,
        position: npt.NDArray[np.int64],
        cos: Floats,
        sin: Floats,
        *,
        num_heads: int,
        rotary_embedding_dim: int = 0,
        interleaved: int = 0,
    ) -> tuple[Floats]:
        assert position.shape == (1,)
        batch, length, hidden = x.shape
        width = rotary_embedding_dim or hidden // num_heads
        rows = slice(int(position[0]), int(position[0]) + length)
        assert cos.shape == sin.shape == (len(cos), width // 2)
        angles = [table[rows][None, :, None] for table in (cos, sin)]
        heads = x.reshape(batch, length, num_heads, -1).copy()
        parts = (
            (slice(0, width, 2), slice(1, width, 2)) if interleaved else (slice(width // 2), slice(width // 2, width))
        )
        left, right = (heads[..., part].copy() for part in parts)
        heads[..., parts[0]] = left * angles[0] - right * angles[1]
        heads[..., parts[1]] = right * angles[0] + left * angles[1]
        return (heads.reshape(x.shape),)


class SkipLayerNormalization(OpRun):
    op_domain = "com.microsoft"

    def _run(
        self,
        x: Floats,
        skip: Floats,
        gamma: Floats,
        beta: Floats | None = None,
        bias: Floats | None = None,
        *,
        epsilon: float = 1e-5,
    ) -> tuple[Floats, ...]:
        assert x.shape == skip.shape
        total = x + skip + (0 if bias is None else bias)
        mean = total.mean(axis=-1, keepdims=True)
        deviation = total - mean
        norm = deviation / np.sqrt((deviation**2).mean(axis=-1, keepdims=True) + np.float32(epsilon))
        out = norm * gamma + (0 if beta is None else beta)
        return out, mean, mean, total


class SimplifiedLayerNormalization(OpRun):
    op_domain = ""

    def _run(self, x: Floats, gain: Floats, *, axis: int = -1, epsilon: float = 1e-5) -> tuple[Floats]:
        assert axis in (-1, x.ndim - 1)
        return (x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + np.float32(epsilon)) * gain,)


class BiasGelu(OpRun):
    op_domain = "com.microsoft"

    def _run(self, x: Floats, bias: Floats) -> tuple[Floats]:
        total = x + bias
        return ((total / 2 * (1 + erf(total / np.sqrt(2)))).astype(np.float32),)


class GatherElements(OpRun):
    """The evaluator's own takes at most 64 elements."""

    def _run(self, x: Any, indices: Any, *, axis: int = 0) -> tuple[Any]:
        sliced = tuple(slice(None) if i == axis % x.ndim else slice(n) for i, n in enumerate(indices.shape))
        return (np.take_along_axis(x[sliced], indices, axis=axis),)


OPERATORS = (
    *(RemovePadding, RestorePadding, PackedMultiHeadAttention, SkipLayerNormalization, SimplifiedLayerNormalization),
    *(BiasGelu, GatherElements, MultiHeadAttention, RotaryEmbedding),
)


def evaluator(proto: Any) -> Any:
    """Runs a graph with these operators: `.run(outputs or None, feeds)`."""
    return ReferenceEvaluator(proto, new_ops=list(OPERATORS))


def as_gpu(monkeypatch: pytest.MonkeyPatch, engine: type[Any]) -> None:
    """Takes an engine for the one of a GPU, which is there."""
    monkeypatch.setattr(engines, "CudaEngine", engine)
    monkeypatch.setattr(request, "why_no_gpu", lambda: "")
