"""What makes a folder a sparse encoder's (module-stack spec, section 15)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stcompile.compiler.kinds.base import ModuleEntry

# How sentence-transformers calls its class in config_sentence_transformers.json.
SPARSE_ENCODER = "SparseEncoder"

# Modules whose output is mostly zeros.
_SPARSE_MODULES = ("SpladePooling", "SparseAutoEncoder", "SparseStaticEmbedding")


def is_sparse(settings: Mapping[str, Any], entries: Sequence[ModuleEntry]) -> bool:
    """Whether a folder is a SparseEncoder's: it says so, or says nothing and has a module of one.

    Args:
        settings: config_sentence_transformers.json.
        entries: the modules that it lists.
    """
    named = settings.get("model_type")
    return named == SPARSE_ENCODER or (named is None and any(map(_has_sparse_module, entries)))


def _has_sparse_module(entry: ModuleEntry) -> bool:
    inner = [module for route in entry.routes.values() for module in route]
    return entry.kind.name in _SPARSE_MODULES or any(map(_has_sparse_module, inner))


def active_dims_of(settings: Mapping[str, Any], entries: Sequence[ModuleEntry], reasons: list[str]) -> int | None:
    """How many of a vector's largest numbers are kept where nothing is asked for; None keeps all.

    What is stored wins; without it the `k` of the first SparseAutoEncoder of the stack, those in Routers aside.
    """
    stored = settings.get("max_active_dims")
    if stored is not None:
        if not isinstance(stored, int) or isinstance(stored, bool) or stored < 1:
            reasons.append(f"max_active_dims is {stored!r}: it must be a positive whole number or null")
            return None
        return stored
    return next((int(entry.config["k"]) for entry in entries if entry.kind.name == "SparseAutoEncoder"), None)
