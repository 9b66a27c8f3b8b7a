"""Texts as a front end without pairs takes them."""

from __future__ import annotations

from collections.abc import Sequence

from stcompile.errors import InputError
from stcompile.runtime.text.base import Text

# Enough for texts of 1, 2, 3, ... 24 words.
_PROBE_WORDS = 300


def prompted(texts: Sequence[Text], prompt: str | None) -> list[str]:
    """Each text with the prompt in front of it, nothing between them.

    Raises:
        InputError: a text is a pair of texts.
    """
    found = [(prompt or "") + text for text in texts if isinstance(text, str)]
    if len(found) != len(texts):
        raise InputError("this model joins no pairs of texts: only a Transformer does")
    return found


def texts_of_words(words: Sequence[str]) -> list[str]:
    """Texts of one word to many, spread over a vocabulary: what parity reads of words that no everyday text holds."""
    step = max(1, len(words) // _PROBE_WORDS)
    some = list(words)[::step][:_PROBE_WORDS]
    texts: list[str] = []
    while some:
        length = len(texts) + 1
        texts.append(" ".join(some[:length]))
        some = some[length:]
    return texts
