"""A module that is no part of the library: a weighted tanh."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from sentence_transformers.base.modules.module import Module


class ScaledTanh(Module):  # type: ignore[misc]
    """Tanh of the weighted sentence embedding, stretched by a factor."""

    config_keys: ClassVar[list[str]] = ["width", "factor"]

    def __init__(self, width: int, factor: float = 1.0) -> None:
        super().__init__()
        self.width = width
        self.factor = factor
        self.weight = torch.nn.Parameter(torch.ones(width))

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        embedding = features["sentence_embedding"]
        return {**features, "sentence_embedding": self.factor * torch.tanh(self.weight * embedding)}

    def get_embedding_dimension(self) -> int:
        return self.width

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> ScaledTanh:
        module = cls(**cls.load_config(model_name_or_path, subfolder=subfolder))
        loaded: ScaledTanh = cls.load_torch_weights(model_name_or_path, subfolder=subfolder, model=module)
        return loaded
