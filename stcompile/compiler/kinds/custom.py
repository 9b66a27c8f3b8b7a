"""Custom: a module whose code comes with the model, or with a package the model names."""

from __future__ import annotations

from stcompile.compiler.kinds.base import ModuleType

KIND = ModuleType("Custom", "custom", builder="custom:CustomModule", config_files=(), keywords="read", is_custom=True)
