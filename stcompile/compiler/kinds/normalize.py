"""Normalize."""

from __future__ import annotations

from stcompile.compiler.kinds.base import ModuleType, keep, type_paths
from stcompile.compiler.kinds.values import not_feature_names

KIND = ModuleType(
    "Normalize",
    "stcompile.compiler.modules.normalize:Normalize",
    type_paths("Normalize", "normalize"),
    normalized=keep("module_input_name", "module_output_name"),
    problems=not_feature_names,
)
