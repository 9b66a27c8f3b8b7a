"""Checks that several module types make of a value in their configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stcompile.compiler.kinds.base import Config

# Of float32: a whole number in JSON may have any number of digits.
_LARGEST_FLOAT = 3.4e38

# Of words and their weights, which BoW and WordWeights have.
VOCABULARY_KEYS = ("vocab", "word_weights", "unknown_word_weight")


def is_positive(value: Any) -> bool:
    """Whether it is a positive whole number that a model may have."""
    # Nothing a model has is wider or longer than this; what is above it is a typing error that would take all memory.
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def is_id(value: Any) -> bool:
    """Whether it is a whole number that a token may have."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def is_number(value: Any) -> bool:
    """Whether it is a number that float32 holds."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST_FLOAT


def nested(config: Config, *keys: str) -> Config:
    """What lies in an object within an object, by its keys; nothing where there is none, or something else."""
    found: Any = config
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def not_positive(config: Config, *keys: str) -> Iterator[str]:
    """What is wrong with keys that must be there, and positive whole numbers."""
    for key in keys:
        if not is_positive(config.get(key)):
            yield f"its {key} is {config.get(key)!r}: it must be a positive whole number"


def not_feature_names(config: Config) -> Iterator[str]:
    """What is wrong with the features that a module is to read and write."""
    for key in ("module_input_name", "module_output_name"):
        if not isinstance(config.get(key), (str, type(None))):
            yield f"its {key} is {config[key]!r}: it must be the name of a feature"


def task_list_problems(config: Config, key: str) -> Iterator[str]:
    """What is wrong with tasks that a module is told to treat in its own way."""
    tasks = config[key]
    if not isinstance(tasks, list) or not all(isinstance(task, str) for task in tasks):
        yield f"its {key} must be a list of tasks, e.g. document"


def not_a_share(config: Config, key: str, default: float) -> Iterator[str]:
    """What is wrong with a probability."""
    value = config.get(key, default)
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        yield f"its {key} is {value!r}: it must be a number from 0 to 1"


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
