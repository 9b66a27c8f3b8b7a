"""WeightedLayerPooling: a weighted mean of the network's layers in place of its last one."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from stcompile.artifact.manifest import TOKENS
from stcompile.compiler.modules.base import Features, InputModule, Module
from stcompile.errors import InputError, UnsupportedError


class WeightedLayerPooling(Module):
    """`sum_l w_l h_l / sum_l w_l` over the layers from `layer_start` on (module-stack spec, section 8.1).

    Reads `all_layer_embeddings`, a tuple of `(batch, sequence, hidden)` with the network's embeddings first; writes
    `token_embeddings` of the same shape. Does nothing where the network does not show its layers, as
    sentence-transformers since 5.4.

    Args:
        embedding_dimension: hidden width of the network; kept, and without effect.
        num_hidden_layers: layers of the network.
        layer_start: the first layer that counts; 0 is the embeddings, 1 the first layer.
        layer_weights: one for each layer that counts, used as they are; None means 1 for all.
        word_embedding_dimension: the older name of `embedding_dimension`.

    Raises:
        InputError: no width, no layer left, or not one weight for each.
    """

    config_keys = ("embedding_dimension", "layer_start", "num_hidden_layers")
    has_weights: ClassVar[bool] = True
    reads = TOKENS
    writes = TOKENS

    def __init__(
        self,
        embedding_dimension: int | None = None,
        num_hidden_layers: int = 12,
        layer_start: int = 4,
        layer_weights: Tensor | None = None,
        *,
        word_embedding_dimension: int | None = None,
    ) -> None:
        super().__init__()
        width = embedding_dimension if embedding_dimension is not None else word_embedding_dimension
        count = num_hidden_layers + 1 - layer_start
        weights = torch.ones(max(count, 0)) if layer_weights is None else layer_weights.detach().float()
        if width is None or layer_start < 0 or count < 1 or weights.shape != (count,):
            raise InputError(
                "WeightedLayerPooling needs embedding_dimension, a layer_start from 0 to num_hidden_layers, and one of "
                f"layer_weights for each layer from there on, got {width}, {layer_start} of {num_hidden_layers} and "
                f"{tuple(weights.shape)}"
            )
        self.embedding_dimension = width
        self.num_hidden_layers = num_hidden_layers
        self.layer_start = layer_start
        self.layer_weights = nn.Parameter(weights)

    def forward(self, features: Features) -> Features:
        layers = features.get("all_layer_embeddings")
        if layers is None:
            return features
        counted = layers[self.layer_start :]
        if len(counted) != len(self.layer_weights):
            raise UnsupportedError(
                type(self).__name__,
                f"its configuration says {self.num_hidden_layers} layers, but the network shows {len(layers) - 1}: "
                "correct num_hidden_layers",
            )
        weights = self.layer_weights.reshape(-1, 1, 1, 1)
        mean = (torch.stack(counted) * weights).sum(dim=0) / self.layer_weights.sum()
        return {**features, TOKENS: mean}

    def notes(self, front: InputModule) -> list[str]:
        if "all_layer_embeddings" in front.features:
            return []
        return [
            "WeightedLayerPooling does nothing, as in sentence-transformers: output_hidden_states is not set in the "
            "network's config.json"
        ]
