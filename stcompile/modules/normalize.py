"""Normalize: rows to unit length."""

from __future__ import annotations

from typing import Any

from torch.nn import functional

from stcompile.modules.base import Features, Module


class Normalize(Module):
    """`x / max(||x||_2, 1e-12)` over the last axis; a zero row stays zero (spec section 7.4).

    Args:
        module_input_name: feature to normalize, `(batch, dim)` or `(batch, sequence, hidden)`.
        module_output_name: feature to write; None writes the input's.
    """

    def __init__(self, module_input_name: str = "sentence_embedding", module_output_name: str | None = None) -> None:
        super().__init__()
        self.module_input_name = module_input_name
        self.module_output_name = module_output_name or module_input_name

    def forward(self, features: Features) -> Features:
        value = features.get(self.module_input_name)
        if value is None:
            return features
        return {**features, self.module_output_name: functional.normalize(value, p=2.0, dim=-1)}

    def get_config(self) -> dict[str, Any]:
        return {"module_input_name": self.module_input_name, "module_output_name": self.module_output_name}
