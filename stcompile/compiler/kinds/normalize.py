"""Normalize."""

from __future__ import annotations

from stcompile.compiler.kinds.base import ModuleType, keep
from stcompile.compiler.kinds.values import not_feature_names

KIND = ModuleType(
    "Normalize", "normalize", normalized=keep("module_input_name", "module_output_name"), problems=not_feature_names
)
