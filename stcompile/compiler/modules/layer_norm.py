"""LayerNorm on the pooled vector."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from stcompile.compiler.modules.base import Features, Module


class LayerNorm(Module):
    """Layer normalisation of `sentence_embedding` `(batch, dim)`, eps 1e-5 (spec section 7.2).

    Args:
        dimension: width of the embedding.
    """

    config_keys = ("dimension",)
    has_weights: ClassVar[bool] = True

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension
        self.norm = nn.LayerNorm(dimension)

    def forward(self, features: Features) -> Features:
        return {**features, "sentence_embedding": self.norm(features["sentence_embedding"])}

    @property
    def in_width(self) -> int:
        return self.dimension
