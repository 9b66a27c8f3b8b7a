"""LayerNorm."""

from __future__ import annotations

from stcompile.compiler.kinds.base import ModuleType, keep
from stcompile.compiler.kinds.values import not_positive

KIND = ModuleType(
    "LayerNorm", "layer_norm", normalized=keep("dimension"), problems=lambda config: not_positive(config, "dimension")
)
