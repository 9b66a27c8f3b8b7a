"""Texts as a front end without pairs takes them."""

from __future__ import annotations

from collections.abc import Sequence

from stcompile.errors import InputError
from stcompile.runtime.text.base import Text


def prompted(texts: Sequence[Text], prompt: str | None) -> list[str]:
    """Each text with the prompt in front of it, nothing between them.

    Raises:
        InputError: a text is a pair of texts.
    """
    found = [(prompt or "") + text for text in texts if isinstance(text, str)]
    if len(found) != len(texts):
        raise InputError("this model joins no pairs of texts: only a Transformer does")
    return found
