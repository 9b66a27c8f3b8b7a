"""Weights of words, e.g. their inverse document frequencies: on token embeddings, and the table BoW shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from stcompile.artifact.manifest import TOKENS
from stcompile.compiler.modules.base import Features, InputModule, Module
from stcompile.errors import InputError


class WordWeights(Module):
    """Token embeddings times the weight of their word (module-stack spec, section 8.4).

    Reads and writes `token_embeddings` `(batch, sequence, hidden)`; writes `token_weights_sum` `(batch,)`, which
    Pooling divides by in place of the number of tokens. Both leave padding out.

    Args:
        vocab: words by id, as long as the tokenizer's own.
        word_weights: word to weight; also found under its lower-case form.
        unknown_word_weight: of the words it has none for.
    """

    config_keys = ("vocab", "word_weights", "unknown_word_weight")
    has_weights: ClassVar[bool] = True
    counts_tokens: ClassVar[bool] = True
    needs = ("input_ids", "attention_mask")
    reads = TOKENS
    writes = TOKENS

    def __init__(self, vocab: Sequence[str], word_weights: Mapping[str, float], unknown_word_weight: float = 1) -> None:
        super().__init__()
        self.vocab = list(vocab)
        self.word_weights = dict(word_weights)
        self.unknown_word_weight = unknown_word_weight
        table = weights_of(self.vocab, self.word_weights, unknown_word_weight)
        # torch has no types for it
        self.emb_layer: nn.Embedding = nn.Embedding.from_pretrained(table.unsqueeze(-1), freeze=False)  # type: ignore[no-untyped-call]

    @classmethod
    def load(cls, folder: Path, config: dict[str, Any]) -> Self:
        """From the configuration alone: sentence-transformers writes the table since 5.4, but never reads it."""
        return cls.from_config(config)

    def forward(self, features: Features) -> Features:
        x = features[TOKENS]
        weights = self.emb_layer(features["input_ids"]).squeeze(-1) * features["attention_mask"].to(x.dtype)
        return {**features, TOKENS: x * weights.unsqueeze(-1), "token_weights_sum": weights.sum(dim=1)}

    def misfits(self, front: InputModule) -> list[str]:
        if len(self.vocab) >= front.vocabulary_size:
            return []
        return [
            f"has weights for {len(self.vocab)} words, but the tokenizer makes ids up to "
            f"{front.vocabulary_size - 1}: save it with the tokenizer's whole vocabulary"
        ]

    def summary(self) -> dict[str, Any]:
        return {**self.get_config(), "vocab": len(self.vocab), "word_weights": len(self.word_weights)}


def weights_of(vocab: Sequence[str], word_weights: Mapping[str, float], unknown_word_weight: float) -> Tensor:
    """The weight of each word, float32 `(vocabulary,)`: its own, else its lower-case form's, else the unknown one.

    Raises:
        InputError: a weight is no number.
    """
    own = (word_weights.get(word, word_weights.get(word.lower(), unknown_word_weight)) for word in vocab)
    try:
        return torch.tensor(list(own), dtype=torch.float32)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(f"the weights of words must be numbers ({error})") from error
