"""BoW."""

from __future__ import annotations

from stcompile.compiler.kinds.base import ModuleType, keep, type_paths
from stcompile.compiler.kinds.vocabulary import VOCABULARY_KEYS, vocabulary_problems, without_words

KIND = ModuleType(
    "BoW",
    "stcompile.compiler.modules.bow:BoW",
    type_paths("BoW", "bow"),
    normalized=keep(*VOCABULARY_KEYS, "cumulative_term_frequency"),
    problems=vocabulary_problems,
    shown=without_words,
    reads_text=True,
)
