"""Normalize: rows to unit length."""

from __future__ import annotations

from typing import Any

from torch.nn import functional

from stcompile.artifact.manifest import SENTENCE
from stcompile.compiler.modules.base import Features, Module


class Normalize(Module):
    """`x / max(||x||_2, 1e-12)` over the last axis; a zero row stays zero (spec section 7.4).

    Args:
        module_input_name: feature to normalize, `(batch, dim)` or `(batch, sequence, hidden)`.
        module_output_name: feature to write; None writes the input's.
    """

    def __init__(self, module_input_name: str = SENTENCE, module_output_name: str | None = None) -> None:
        super().__init__()
        self.reads = module_input_name
        self.writes = module_output_name or module_input_name

    def forward(self, features: Features) -> Features:
        value = features.get(self.reads)
        if value is None:
            return features
        return {**features, self.writes: functional.normalize(value, p=2.0, dim=-1)}

    def get_config(self) -> dict[str, Any]:
        return {"module_input_name": self.reads, "module_output_name": self.writes}
