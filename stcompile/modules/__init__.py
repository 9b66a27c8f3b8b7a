"""The torch building blocks of a module stack, one a file, with the field's constructor arguments.

Each has the folder format and the math of its sentence-transformers namesake, so a stack can be built from
scratch, saved, and loaded by sentence-transformers, and the other way round.
"""

from stcompile.modules.base import Module
from stcompile.modules.dense import Dense
from stcompile.modules.dropout import Dropout
from stcompile.modules.layer_norm import LayerNorm
from stcompile.modules.normalize import Normalize
from stcompile.modules.pooling import Pooling
from stcompile.modules.transformer import Transformer

__all__ = ["Dense", "Dropout", "LayerNorm", "Module", "Normalize", "Pooling", "Transformer"]
