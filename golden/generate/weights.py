"""Seeded random weights that leave no parameter without an effect."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def randomize(model: ModuleT, seed: int) -> ModuleT:
    """Give every parameter a value that matters: no zero biases, no unit norms, no tiny deviations."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters(), key=lambda item: item[0]):
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            if id(parameter) in embeddings:
                value = 0.7 * noise
            elif parameter.dim() >= 2:
                value = noise * (1.3 / math.sqrt(max(1, parameter[0].numel())))
            elif parameter.dim() == 0:
                value = noise
            elif "norm" in name.lower() and name.endswith("weight"):
                value = 1.0 + 0.2 * noise
            else:
                value = 0.15 * noise
            parameter.copy_(value)
    return model.eval()
