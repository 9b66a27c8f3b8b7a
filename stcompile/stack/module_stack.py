"""`ModuleStack`: the modules of a sentence-embedding model in order, as one torch network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stcompile.errors import InputError
from stcompile.manifest import SENTENCE, ModuleSummary
from stcompile.modules import Module, Pooling, Transformer
from stcompile.modules.base import Features
from stcompile.modules.transformer import Text


class ModuleStack(nn.Module):
    """A Transformer and what follows it, with prompts: what a model folder holds.

    Args:
        modules: a Transformer first, then any of `stcompile.modules`.
        prompts: prompt name to text.
        default_prompt_name: the prompt plain encoding uses.
        similarity: `cosine`, `dot`, `euclidean` or `manhattan`.
        truncate_dim: dimensions kept by default; None keeps all.
        name: what the model is called.

    Raises:
        InputError: the first module is not a Transformer, or nothing makes a sentence embedding.
    """

    def __init__(
        self,
        modules: Sequence[Module],
        *,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity: str = "cosine",
        truncate_dim: int | None = None,
        name: str = "model",
    ) -> None:
        super().__init__()
        if not modules or not isinstance(modules[0], Transformer):
            raise InputError("a module stack starts with a Transformer")
        self.blocks = nn.ModuleList(modules)
        self.prompts = {"query": "", "document": "", **(prompts or {})}
        self.default_prompt_name = default_prompt_name
        self.similarity = similarity
        self.truncate_dim = truncate_dim
        self.name = name
        self.eval()

    @property
    def transformer(self) -> Transformer:
        """The first module."""
        first = self.blocks[0]
        assert isinstance(first, Transformer)
        return first

    @property
    def leaves_out_prompt(self) -> bool:
        """Whether some pooling excludes the prompt, so that the graph needs its length."""
        return any(isinstance(block, Pooling) and not block.include_prompt for block in self.blocks)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the graph's inputs, in order."""
        names = self.transformer.input_names
        return (*names, "prompt_length") if self.leaves_out_prompt else names

    @property
    def dim(self) -> int:
        """Width of the sentence embedding."""
        width = 0
        for block in self.blocks:
            width = block.output_dimension(width)  # type: ignore[operator]
        return width

    def forward(self, features: Features) -> Features:
        for block in self.blocks:
            features = block(features)
        return features

    @torch.inference_mode()
    def encode(
        self, texts: Sequence[Text], prompt: str | None = None, batch_size: int = 32, output: str = SENTENCE
    ) -> NDArray[np.float32]:
        """The reference of parity: torch's vectors, batches of like length.

        Args:
            texts: strings, or pairs of strings.
            prompt: text in front of each.
            batch_size: texts per forward pass.
            output: the feature to return, per text.

        Returns:
            float32 `(n, dim)`.
        """
        rows: list[NDArray[np.float32]] = [np.zeros(0, dtype=np.float32)] * len(texts)
        order = sorted(range(len(texts)), key=lambda index: -sum(map(len, texts[index])))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            features = self.transformer.tokenize([texts[index] for index in batch], prompt)
            if self.leaves_out_prompt:
                features["prompt_length"] = torch.tensor(self.transformer.prompt_length(prompt))
            values = self(features)[output].float().numpy()
            for index, row in zip(batch, values, strict=True):
                rows[index] = row
        return np.stack(rows) if rows else np.zeros((0, self.dim), dtype=np.float32)

    def summaries(self) -> tuple[ModuleSummary, ...]:
        """The stack as a manifest records it."""
        return tuple(ModuleSummary(type(block).__name__, _config(block)) for block in self.blocks)

    def fingerprint(self) -> str:
        """sha256 over configuration, weights and tokenizer, as they were read."""
        digest = hashlib.sha256()
        summary = [[item.type, item.config] for item in self.summaries()]
        digest.update(json.dumps([summary, self.prompts, self.default_prompt_name], sort_keys=True).encode())
        digest.update(self.transformer.tokenizer_json().encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


def _config(block: nn.Module) -> dict[str, Any]:
    assert isinstance(block, Module)
    return block.get_config()
