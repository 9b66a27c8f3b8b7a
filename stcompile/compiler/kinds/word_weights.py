"""WordWeights."""

from __future__ import annotations

from stcompile.compiler.kinds.base import ModuleType, keep
from stcompile.compiler.kinds.values import VOCABULARY_KEYS, vocabulary_problems, without_words

KIND = ModuleType(
    "WordWeights", "word_weights", normalized=keep(*VOCABULARY_KEYS), problems=vocabulary_problems, shown=without_words
)
