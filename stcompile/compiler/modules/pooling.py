"""Pooling: token embeddings to one vector, in any of the six modes or several concatenated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from stcompile.artifact.manifest import SENTENCE, TOKENS
from stcompile.compiler.kinds.pooling import POOLING_MODES
from stcompile.compiler.modules.base import Features, InputModule, Module
from stcompile.errors import InputError

_TINY = 1e-9
_NOTHING = float("-inf")


@dataclass(frozen=True)
class Tokens:
    """What a pooling mode works on.

    Attributes:
        x: token embeddings `(batch, sequence, hidden)`.
        kept: mask `(batch, sequence)` of ones and zeros, without the positions a prompt took.
        original: the mask with them.
        weights_sum: sum of the word weights per row `(batch,)`, where a WordWeights made one: it takes the place of
            the number of tokens.
    """

    x: Tensor
    kept: Tensor
    original: Tensor
    weights_sum: Tensor | None


def _sum(tokens: Tokens) -> tuple[Tensor, Tensor]:
    mask = tokens.kept.unsqueeze(-1).to(tokens.x.dtype)
    count = mask.sum(dim=1) if tokens.weights_sum is None else tokens.weights_sum.unsqueeze(-1)
    return (tokens.x * mask).sum(dim=1), count.clamp(min=_TINY)


def _mean(tokens: Tokens) -> Tensor:
    total, count = _sum(tokens)
    return total / count


def _mean_sqrt_len_tokens(tokens: Tokens) -> Tensor:
    total, count = _sum(tokens)
    return total / count.sqrt()


def _weightedmean(tokens: Tokens) -> Tensor:
    # Weights count from the first real token (sentence-transformers 6.2): left padding changes nothing,
    # and a prompt that is left out keeps the others' positions.
    x = tokens.x
    positions = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=x.dtype).unsqueeze(0)
    weights = tokens.kept.to(x.dtype) * (positions - first_token(tokens.original).to(x.dtype))
    total = (x * weights.unsqueeze(-1)).sum(dim=1)
    count = weights.sum(dim=1, keepdim=True) if tokens.weights_sum is None else tokens.weights_sum.unsqueeze(-1)
    return total / count.clamp(min=_TINY)


def _max(tokens: Tokens) -> Tensor:
    largest = tokens.x.masked_fill(tokens.kept.unsqueeze(-1) == 0, _NOTHING).amax(dim=1)
    # OpenVINO's largest of none is the lowest finite number.
    return largest.masked_fill(tokens.kept.amax(dim=1, keepdim=True) == 0, _NOTHING)


def _cls(tokens: Tokens) -> Tensor:
    return _at(tokens.x, first_token(tokens.kept))


def _lasttoken(tokens: Tokens) -> Tensor:
    x, kept = tokens.x, tokens.kept
    positions = torch.arange(x.shape[1], device=x.device, dtype=torch.int64).unsqueeze(0)
    last = (positions * kept.to(torch.int64)).amax(dim=1, keepdim=True)
    return _at(x * kept.unsqueeze(-1).to(x.dtype), last)


def _at(x: Tensor, position: Tensor) -> Tensor:
    index = position.to(torch.int64).unsqueeze(-1).expand(-1, 1, x.shape[-1])
    return torch.gather(x, 1, index).squeeze(1)


def first_token(mask: Tensor) -> Tensor:
    """Position of each row's first unmasked token, int64 `(batch, 1)`; 0 where there is none."""
    return mask.to(torch.int32).argmax(dim=1, keepdim=True)


def _mask_for(x: Tensor, mask: Tensor) -> Tensor:
    """The attention mask where it has the length of the token embeddings, otherwise ones.

    Only a convolution shortens its input. Whether it does can depend on the length itself (a stride leaves a single
    token alone), so a traced graph decides as it runs.
    """
    if statically_known_true(x.shape[1] == mask.shape[1]):
        return mask
    ones = torch.ones_like(x[:, :, 0], dtype=mask.dtype)
    same = torch.ones_like(mask[:1]).sum() == ones[:1].sum()
    return torch.where(same, mask[:, : x.shape[1]], ones)


Mode = Callable[[Tokens], Tensor]

_POOLED_BY: dict[str, Mode] = {
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
        embedding_dimension: hidden width of the token embeddings; kept, and without effect.
        pooling_mode: one mode of `POOLING_MODES`, or several that are concatenated in this order.
        include_prompt: False leaves the prompt's tokens out; the graph then takes a `prompt_length` input.
        word_embedding_dimension: the older name of `embedding_dimension`.

    Raises:
        InputError: an unknown mode, or no width.
    """

    needs = ("attention_mask",)
    reads = TOKENS

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
        x = features["token_embeddings"]
        original = _mask_for(x, features["attention_mask"])
        kept = original
        if not self.include_prompt and "prompt_length" in features:
            positions = torch.arange(x.shape[1], device=x.device, dtype=torch.int64).unsqueeze(0)
            start = first_token(original).to(torch.int64) + features["prompt_length"]
            kept = torch.where(positions < start, torch.zeros_like(original), original)
        tokens = Tokens(x, kept, original, features.get("token_weights_sum"))
        return {**features, SENTENCE: torch.cat([_POOLED_BY[mode](tokens) for mode in self.modes], dim=-1)}

    def misfits(self, front: InputModule) -> list[str]:
        if front.has_cls_token or "cls" not in self.modes:
            return []
        return [f"pools the cls token, but {type(front).__name__} have none: choose another pooling mode"]

    def get_config(self) -> dict[str, Any]:
        return {
            "embedding_dimension": self.embedding_dimension,
            "pooling_mode": self.modes[0] if len(self.modes) == 1 else list(self.modes),
            "include_prompt": self.include_prompt,
        }

    def out_width(self, in_width: int) -> int:
        # Whatever embedding_dimension says: nothing is computed with it, here as in sentence-transformers.
        return len(self.modes) * in_width
