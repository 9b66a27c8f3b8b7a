"""The texts parity is judged on."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable, Sequence
from importlib import resources

# Longer limits would cost tens of gigabytes of attention scores in torch for a single text.
_LONGEST_RUN = 2048

# Tokens of the texts that models with longer limits are compared on, as far as their limit goes: beyond the windows of
# local attention and the lengths that positions were first learned for.
_LONG, _LONGEST = 1500, 4096

# Weights of a network that is judged on all texts, and the fewest texts of any. Of 110 million weights all cost half a
# minute on a core of 2023; of 440 million, as Qwen3-0.6B has them, they would cost two and a half.
_ALL_UP_TO, _FEWEST = 150_000_000, 64

# Characters of texts that no network is judged without.
_ODD = 4

# Tokens of some text, as the model counts them.
Count = Callable[[str], int]


def probe_texts() -> list[str]:
    """The default texts: many languages, domains and lengths, with empty, whitespace, emoji and odd ones."""
    texts: list[str] = json.loads(resources.files(__package__).joinpath("probe_texts.json").read_text("utf-8"))
    return texts


def probe_texts_for(weights: int) -> list[str]:
    """As many of the default texts as a network of that size is judged on, the same ones on every machine.

    All up to `_ALL_UP_TO` weights; of larger networks fewer, so that what both sides compute stays about the same, and
    at least `_FEWEST`. Kept is what is odd or longest, a text of each script, and of the others every so many in the
    order of scripts and lengths.

    Args:
        weights: of the network, its tables of embeddings left out: what a token costs.
    """
    texts = probe_texts()
    wanted = max(_FEWEST, len(texts) * _ALL_UP_TO // max(weights, 1))
    if wanted >= len(texts):
        return texts
    places = range(len(texts))
    kept = {place for place in places if len(texts[place]) < _ODD or not any(map(str.isalpha, texts[place]))}
    kept.add(max(places, key=lambda place: len(texts[place])))
    ordered = sorted((place for place in places if place not in kept), key=lambda place: _kind_of(texts[place]))
    kept.update({_kind_of(texts[place])[0]: place for place in ordered}.values())
    others = [place for place in ordered if place not in kept]
    free = max(wanted - len(kept), 1)
    kept.update(others[index * len(others) // free] for index in range(free))
    return [texts[place] for place in sorted(kept)]


def _kind_of(text: str) -> tuple[str, int]:
    """The script of its first letter, and its length."""
    letter = next(character for character in text if character.isalpha())
    return unicodedata.name(letter, "").partition(" ")[0], len(text)


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
