"""Dropout."""

from __future__ import annotations

from stcompile.compiler.kinds.base import ModuleType, keep
from stcompile.compiler.kinds.values import not_a_share

KIND = ModuleType(
    "Dropout", "dropout", normalized=keep("dropout"), problems=lambda config: not_a_share(config, "dropout", 0.2)
)
