"""The linear layer of ColBERT's own folders, which lies among the weights of the network."""

from __future__ import annotations

from stcompile.compiler.kinds.base import ModuleType

# It is in no modules.json: nothing names it.
KIND = ModuleType("Dense", "dense", builder="stanford_projection:StanfordProjection", keywords="ignored")
