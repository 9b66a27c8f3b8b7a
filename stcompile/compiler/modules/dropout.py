"""Dropout: part of many stacks, the identity at inference."""

from __future__ import annotations

from torch import nn

from stcompile.compiler.modules.base import Features, Module


class Dropout(Module):
    """Dropout on `sentence_embedding` `(batch, dim)` (spec section 7.3).

    Args:
        dropout: probability of a zero while training; nothing happens in evaluation mode.
    """

    config_keys = ("dropout",)

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.dropout = dropout
        self.dropout_layer = nn.Dropout(dropout)

    def forward(self, features: Features) -> Features:
        return {**features, "sentence_embedding": self.dropout_layer(features["sentence_embedding"])}
