"""The texts parity is judged on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from importlib import resources

# Longer limits would cost tens of gigabytes of attention scores in torch for a single text.
_LONGEST_RUN = 2048

# Tokens of the texts that models with longer limits are compared on, as far as their limit goes: beyond the windows of
# local attention and the lengths that positions were first learned for.
_LONG, _LONGEST = 1500, 4096

# Tokens of some text, as the model counts them.
Count = Callable[[str], int]


def probe_texts() -> list[str]:
    """The default texts: many languages, domains and lengths, with empty, whitespace, emoji and odd ones."""
    texts: list[str] = json.loads(resources.files(__package__).joinpath("probe_texts.json").read_text("utf-8"))
    return texts


def long_texts(texts: Sequence[str], max_seq_length: int | None, count: Count, *, flat: bool) -> list[str]:
    """Texts as long as the model takes them, made of the words of others.

    Up to a limit of 2048 tokens, one that is certain to be cut. Above, one of about 1500 tokens, and one of 4096 or
    as many as the limit leaves.

    Args:
        texts: what they are made of.
        max_seq_length: the model's limit in tokens; None where it has none.
        count: tells the tokens of a text.
        flat: whether tokens lie behind each other, without positions or a mask: there a longer text is a longer sum.
    """
    words = " ".join(texts).split()
    if not words:
        return []
    if max_seq_length is not None and max_seq_length <= _LONGEST_RUN:
        return [_cut(words, max_seq_length)]
    if flat:
        return []
    whole = max_seq_length is None or max_seq_length > _LONGEST
    longest = _of(words, _LONGEST, count) if whole else _cut(words, max_seq_length or _LONGEST)
    return [_of(words, _LONG, count), longest]


def _cut(words: Sequence[str], limit: int) -> str:
    """A text longer than the limit: every word is at least one token, so half as many words again are enough."""
    return _joined(words, limit + limit // 2 + 2)


def _of(words: Sequence[str], tokens: int, count: Count) -> str:
    """The text with the most words that is no longer than so many tokens."""
    fewest, most = 1, 2 * tokens
    while fewest < most:
        middle = (fewest + most + 1) // 2
        fewest, most = (middle, most) if count(_joined(words, middle)) <= tokens else (fewest, middle - 1)
    return _joined(words, fewest)


def _joined(words: Sequence[str], number: int) -> str:
    return " ".join(words[index % len(words)] for index in range(number))


def texts_sha256(texts: Sequence[str]) -> str:
    """Hash of the texts and their order."""
    return hashlib.sha256(json.dumps(list(texts), ensure_ascii=False).encode()).hexdigest()


def shortened(text: str, width: int = 48) -> str:
    """A text on one line, for a table."""
    shown = repr(text)[1:-1]
    return "(empty text)" if not text else shown if len(shown) <= width else f"{shown[: width - 1]}…"
