"""Words and their weights, in a configuration: what BoW and WordWeights share."""

from __future__ import annotations

from collections.abc import Iterator

from stcompile.compiler.kinds.base import Config
from stcompile.compiler.kinds.values import is_number

VOCABULARY_KEYS = ("vocab", "word_weights", "unknown_word_weight")


def vocabulary_problems(config: Config) -> Iterator[str]:
    """What is wrong with words and their weights."""
    vocab, weights = config.get("vocab"), config.get("word_weights", {})
    if not isinstance(vocab, list) or not vocab or not all(isinstance(word, str) for word in vocab):
        yield "its vocab must be a list of words: copy the model again"
    if not isinstance(weights, dict) or not all(is_number(weight) for weight in weights.values()):
        yield "its word_weights must map words to numbers: copy the model again"
    if not is_number(config.get("unknown_word_weight", 1)):
        yield f"its unknown_word_weight is {config['unknown_word_weight']!r}: it must be a number"
    if not isinstance(config.get("cumulative_term_frequency", True), bool):
        yield "its cumulative_term_frequency must be true or false"


def without_words(config: Config) -> Config:
    """A configuration to look at, whose vocabularies are told by their size."""
    return {
        key: f"{len(value)} words" if key in ("vocab", "word_weights") and isinstance(value, (list, dict)) else value
        for key, value in config.items()
    }
