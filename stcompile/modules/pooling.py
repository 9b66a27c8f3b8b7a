"""Pooling: token embeddings to one vector, in any of the six modes or several concatenated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from stcompile.errors import InputError
from stcompile.modules.base import Features, Module

_TINY = 1e-9

# Each mode takes the token embeddings x (batch, sequence, hidden) and masks as floats or integers
# (batch, sequence): `kept`, without the positions a prompt took, and `original`, with them.
Mode = Callable[[Tensor, Tensor, Tensor], Tensor]


def _sum(x: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    mask = kept.unsqueeze(-1).to(x.dtype)
    return (x * mask).sum(dim=1), mask.sum(dim=1).clamp(min=_TINY)


def _mean(x: Tensor, kept: Tensor, _: Tensor) -> Tensor:
    total, count = _sum(x, kept)
    return total / count


def _mean_sqrt_len_tokens(x: Tensor, kept: Tensor, _: Tensor) -> Tensor:
    total, count = _sum(x, kept)
    return total / count.sqrt()


def _weightedmean(x: Tensor, kept: Tensor, original: Tensor) -> Tensor:
    # Weights count from the first real token (sentence-transformers 6.2): left padding changes nothing,
    # and a prompt that is left out keeps the others' positions.
    positions = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=x.dtype).unsqueeze(0)
    weights = kept.to(x.dtype) * (positions - first_token(original).to(x.dtype))
    total = (x * weights.unsqueeze(-1)).sum(dim=1)
    return total / weights.sum(dim=1, keepdim=True).clamp(min=_TINY)


def _max(x: Tensor, kept: Tensor, _: Tensor) -> Tensor:
    return x.masked_fill(kept.unsqueeze(-1) == 0, float("-inf")).amax(dim=1)


def _cls(x: Tensor, kept: Tensor, _: Tensor) -> Tensor:
    return _row(x, first_token(kept))


def _lasttoken(x: Tensor, kept: Tensor, _: Tensor) -> Tensor:
    positions = torch.arange(x.shape[1], device=x.device, dtype=torch.int64).unsqueeze(0)
    last = (positions * kept.to(torch.int64)).amax(dim=1, keepdim=True)
    return _row(x * kept.unsqueeze(-1).to(x.dtype), last)


def _row(x: Tensor, position: Tensor) -> Tensor:
    index = position.to(torch.int64).unsqueeze(-1).expand(-1, 1, x.shape[-1])
    return torch.gather(x, 1, index).squeeze(1)


def first_token(mask: Tensor) -> Tensor:
    """Position of each row's first unmasked token, int64 `(batch, 1)`; 0 where there is none."""
    return mask.to(torch.int32).argmax(dim=1, keepdim=True)


POOLING_MODES: dict[str, Mode] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len_tokens,
    "weightedmean": _weightedmean,
    "lasttoken": _lasttoken,
}


class Pooling(Module):
    """Pools `token_embeddings` `(batch, sequence, hidden)` to `sentence_embedding` `(batch, k * hidden)`.

    The math is that of sentence-transformers 6.2 (spec section 6). A row without any token gives zeros, for
    `max` minus infinity.

    Args:
        embedding_dimension: hidden width of the token embeddings.
        pooling_mode: one mode of `POOLING_MODES`, or several that are concatenated in this order.
        include_prompt: False leaves the prompt's tokens out; the graph then takes a `prompt_length` input.
        word_embedding_dimension: the older name of `embedding_dimension`.

    Raises:
        InputError: an unknown mode, or no width.
    """

    def __init__(
        self,
        embedding_dimension: int | None = None,
        pooling_mode: str | Sequence[str] = "mean",
        include_prompt: bool = True,
        *,
        word_embedding_dimension: int | None = None,
    ) -> None:
        super().__init__()
        width = embedding_dimension if embedding_dimension is not None else word_embedding_dimension
        modes = (pooling_mode,) if isinstance(pooling_mode, str) else tuple(pooling_mode)
        unknown = [mode for mode in modes if mode not in POOLING_MODES]
        if width is None or unknown or not modes:
            problem = f"unknown pooling mode {unknown[0]!r}" if unknown else "no embedding_dimension or no mode"
            raise InputError(f"Pooling: {problem}; the modes are {', '.join(POOLING_MODES)}")
        self.embedding_dimension = width
        self.modes = modes
        self.include_prompt = include_prompt

    def forward(self, features: Features) -> Features:
        x, original = features["token_embeddings"], features["attention_mask"]
        kept = original
        if not self.include_prompt and "prompt_length" in features:
            positions = torch.arange(x.shape[1], device=x.device, dtype=torch.int64).unsqueeze(0)
            start = first_token(original).to(torch.int64) + features["prompt_length"]
            kept = torch.where(positions < start, torch.zeros_like(original), original)
        pooled = [POOLING_MODES[mode](x, kept, original) for mode in self.modes]
        return {**features, "sentence_embedding": torch.cat(pooled, dim=-1)}

    def get_config(self) -> dict[str, Any]:
        return {
            "embedding_dimension": self.embedding_dimension,
            "pooling_mode": self.modes[0] if len(self.modes) == 1 else list(self.modes),
            "include_prompt": self.include_prompt,
        }

    def output_dimension(self, input_dimension: int) -> int:
        return len(self.modes) * self.embedding_dimension
