"""BoW."""

from __future__ import annotations

from stcompile.compiler.kinds.base import ModuleType, keep
from stcompile.compiler.kinds.values import VOCABULARY_KEYS, vocabulary_problems, without_words

KIND = ModuleType(
    "BoW",
    "bow",
    normalized=keep(*VOCABULARY_KEYS, "cumulative_term_frequency"),
    problems=vocabulary_problems,
    shown=without_words,
    reads_text=True,
)
