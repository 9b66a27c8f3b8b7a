"""SparseAutoEncoder: a sentence embedding as few of many learned features, contrastive sparse representation (CSR)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from torch.nn import functional

from stcompile.artifact.manifest import SENTENCE
from stcompile.compiler.modules.base import Features, Module
from stcompile.compiler.modules.weights import read_state
from stcompile.errors import ModelFolderError

# What sentence-transformers adds to a standard deviation.
_EPSILON = 1e-5


class SparseAutoEncoder(Module):
    """`relu((x - pre_bias) W^T + latent_bias)` of a sentence embedding (module-stack spec, section 15.4).

    Reads `sentence_embedding` `(batch, input_dim)`, writes it `(batch, hidden_dim)`, nowhere negative. How many of the
    largest are kept is asked of `encode` (`max_active_dims`), by default `k`: it is no part of the graph.

    Args:
        input_dim: width of the embedding.
        hidden_dim: how many features.
        k: how many of them are kept where nothing else is asked for.
        normalize: whether the embedding is centred and divided by its standard deviation first.
    """

    config_keys = ("input_dim", "hidden_dim", "k", "normalize")
    has_weights = True

    def __init__(self, input_dim: int, hidden_dim: int = 512, k: int = 8, normalize: bool = False) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.hidden_dim = hidden_dim
        self.k = k
        self.normalize = normalize
        self.pre_bias = nn.Parameter(torch.zeros(input_dim))
        self.latent_bias = nn.Parameter(torch.zeros(hidden_dim))
        self.encoder = nn.Linear(input_dim, hidden_dim, bias=False)

    @classmethod
    def load(cls, folder: Path, config: dict[str, Any]) -> Self:
        """Reads its weights. The decoder's are the encoder's, and stored under either name.

        Raises:
            ModelFolderError: they are missing, or of another size.
        """
        module = cls.from_config(config)
        state = read_state(folder)
        names = {"pre_bias": "pre_bias", "latent_bias": "latent_bias"}
        tied = next((name for name in ("encoder.weight", "decoder.linear.weight") if name in state), "encoder.weight")
        for own, stored in {**names, "encoder.weight": tied}.items():
            parameter = module.get_parameter(own)
            if stored not in state or state[stored].shape != parameter.shape:
                raise ModelFolderError(
                    f"the weights in {folder} do not fit its configuration: {stored} is "
                    f"{tuple(state[stored].shape) if stored in state else 'missing'}, not {tuple(parameter.shape)}"
                )
            with torch.no_grad():
                parameter.copy_(state[stored])
        return module

    def forward(self, features: Features) -> Features:
        rows = features[SENTENCE]
        if self.normalize:
            rows = rows - rows.mean(dim=-1, keepdim=True)
            # Of a sample, and of rows without a mean.
            deviation = (rows.square().sum(dim=-1, keepdim=True) / (self.input_dim - 1)).sqrt()
            rows = rows / (deviation + _EPSILON)
        latents = functional.linear(rows - self.pre_bias, self.encoder.weight, self.latent_bias)
        return {**features, SENTENCE: functional.relu(latents)}

    @property
    def in_width(self) -> int:
        return self.input_dim

    def out_width(self, in_width: int) -> int:
        return self.hidden_dim
