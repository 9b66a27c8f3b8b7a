"""What `encode` is called with, checked: texts, tasks and numbers."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

from stcompile.errors import InputError
from stcompile.runtime.text.base import Text

# A text or {task: text}, or a sequence of texts, pairs of texts or {task: text}.
Sentences = str | dict[str, str] | Sequence[str] | Sequence[Sequence[str]] | Sequence[dict[str, str]]


def without_keys(items: list[Any], task: str | None) -> tuple[list[Any], str | None]:
    """`{task: text}` items as texts and their task, which all of a call must share."""
    if not any(isinstance(item, dict) for item in items):
        return items, task
    keys = dict.fromkeys(key for item in items if isinstance(item, dict) for key in item)
    if len(keys) != 1 or not all(isinstance(item, dict) and len(item) == 1 for item in items):
        raise InputError(
            "texts with keys must all have the same one, {task: text}: encode each task in a call of its own, or "
            "pass texts and task="
        )
    (key,) = keys
    if task is not None and task != key:
        raise InputError(f"the texts have the key {key!r}, but task={task!r} was passed: leave one of them out")
    return [item[key] for item in items], key


def listed(sentences: Any) -> tuple[list[Any], bool]:
    """The items of what was passed as texts, and whether it was a single one by itself.

    Raises:
        InputError: it is nothing to go through.
    """
    if isinstance(sentences, (str, dict)):
        return [sentences], True
    try:
        if not isinstance(sentences, bytes):
            return list(sentences), False
    except TypeError:
        pass
    raise InputError(f"encode takes a text or a list of texts, got {type(sentences).__name__}")


def checked_texts(sentences: list[Any], start: int = 0) -> list[Text]:
    """The items as texts and pairs of texts.

    Args:
        sentences: the items.
        start: place of the first among all that were passed.

    Raises:
        InputError: an item is something else.
    """
    texts: list[Text] = []
    for index, item in enumerate(sentences, start):
        if isinstance(item, str):
            texts.append(item)
        elif isinstance(item, (list, tuple)) and len(item) == 2 and all(isinstance(part, str) for part in item):
            texts.append((item[0], item[1]))
        else:
            raise InputError(f"item {index} is {type(item).__name__}, not text: {_remedy(item)}")
    return texts


def _remedy(item: Any) -> str:
    if type(item).__module__.partition(".")[0] == "PIL":
        return "only the text side of a model is compiled; keep images on sentence-transformers"
    return "encode takes strings (or pairs of strings); drop or convert it"


def at_least_one(name: str, value: SupportsIndex) -> int:
    """A whole number.

    Raises:
        InputError: it is none, or smaller than 1.
    """
    try:
        # numpy's integers count; True is an int to Python, but here a slip
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")
    return number
