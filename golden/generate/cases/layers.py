"""WeightedLayerPooling: a weighted mean of the backbone's layers."""

from __future__ import annotations

from functools import partial

import torch
from sentence_transformers.sentence_transformer import modules
from torch import nn

from golden.generate.backbones import HIDDEN
from golden.generate.builder import FolderBuilder
from golden.generate.case import Case


def weighted(
    builder: FolderBuilder, weights: list[float], kind: str = "bert", mode: str = "mean", requested: bool = True
) -> None:
    """Transformer, WeightedLayerPooling over as many layers as there are weights, Pooling."""
    arguments = {"config_kwargs": {"output_hidden_states": True}} if requested else None
    layers = modules.WeightedLayerPooling(
        HIDDEN, num_hidden_layers=2, layer_start=3 - len(weights), layer_weights=nn.Parameter(torch.tensor(weights))
    )
    builder.save([builder.transformer(kind, arguments=arguments), layers, builder.pooling(mode)])


CASES: dict[str, Case] = {
    "weighted_layer_pooling": Case(
        "uneven weights of the two layers, the embeddings left out", partial(weighted, weights=[0.3, 1.9])
    ),
    "weighted_layer_pooling_from_zero": Case(
        "layer_start 0: the embeddings count as a layer; one weight is negative",
        partial(weighted, weights=[-0.7, 0.4, 1.5], kind="distilbert", mode="cls"),
    ),
    "weighted_layer_pooling_no_hidden_states": Case(
        "a backbone that is not asked for its layers: nothing is weighted",
        partial(weighted, weights=[0.3, 1.9], requested=False),
    ),
}
