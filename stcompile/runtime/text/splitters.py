"""Splitters: one text to the ids of its words, without torch (module-stack spec, sections 9.2 to 9.4)."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from tokenizers import Tokenizer

from stcompile.errors import InputError, one_line
from stcompile.extras import require
from stcompile.runtime.forks import engine_call


class Splitter(Protocol):
    """What turns a text into ids. Safe to use from several threads at once."""

    def __call__(self, text: str) -> list[int]:
        """The ids of a text, in order; a word without one leaves none."""
        ...

    def to_json(self) -> dict[str, Any]:
        """What `splitter_from_json` makes it of."""
        ...


class WhitespaceSplitter:
    """Words between white space, punctuation at their ends only where the vocabulary has it (spec section 9.2).

    A word is looked up as it is, then without the ASCII punctuation around it, then in lower case too; a stop word
    at any of these steps, or a word that none of them finds, leaves no id. Of a repeated word the last id counts; stop
    words are compared as they are.

    Raises:
        InputError: an argument of another type.
    """

    def __init__(self, vocab: Sequence[str], stop_words: Iterable[str] = (), do_lower_case: bool = False) -> None:
        self.vocab = _words("vocab", vocab)
        self.stop_words = frozenset(_words("stop_words", stop_words))
        self.do_lower_case = _checked("do_lower_case", do_lower_case, bool)
        self._ids = {word: index for index, word in enumerate(self.vocab)}

    def __call__(self, text: str) -> list[int]:
        words = (text.lower() if self.do_lower_case else text).split()
        return _look_up(words, self._ids, self.stop_words, (_strip, str.lower))

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "whitespace",
            "vocab": self.vocab,
            "stop_words": sorted(self.stop_words),
            "do_lower_case": self.do_lower_case,
        }


class PhraseSplitter:
    """Treebank words as NLTK cuts them, joined where the vocabulary has a phrase (spec section 9.3).

    A phrase is an entry of 2 to `max_ngram_length` words with one separator between each. Longer ones are joined
    first; without a separator there are none. A word is looked up as it is, then in lower case, then without the ASCII
    punctuation around it too. `do_lower_case` is kept, and without effect, as in sentence-transformers.

    Raises:
        InputError: an argument of another type.
        MissingExtraError: NLTK is not installed; its data files are not needed.
    """

    def __init__(
        self,
        vocab: Sequence[str],
        stop_words: Iterable[str] = (),
        do_lower_case: bool = False,
        ngram_separator: str | None = "_",
        max_ngram_length: int = 5,
    ) -> None:
        self._cut: Callable[..., list[str]] = require("nltk", "The PhraseTokenizer").word_tokenize
        self.vocab = _words("vocab", vocab)
        self.stop_words = frozenset(_words("stop_words", stop_words))
        self.do_lower_case = _checked("do_lower_case", do_lower_case, bool)
        self.ngram_separator = _checked("ngram_separator", ngram_separator, (str, type(None)))
        self.max_ngram_length = _checked("max_ngram_length", max_ngram_length, int)
        self._ids = {word: index for index, word in enumerate(self.vocab)}
        lengths = {word: self._phrase_length(word) for word in self._ids}
        self._phrases = frozenset(word for word, length in lengths.items() if length)
        self._lengths = sorted({length for length in lengths.values() if length}, reverse=True)

    def __call__(self, text: str) -> list[int]:
        try:
            words = self._cut(text, preserve_line=True)
        except TimeoutError as error:  # how recent NLTK ends its regular expressions after some seconds
            raise InputError(f"NLTK gives up on a text of {len(text)} characters: shorten it") from error
        for length in self._lengths:
            self._join(words, length)
        return _look_up(words, self._ids, self.stop_words, (str.lower, _strip))

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "phrase",
            "vocab": self.vocab,
            "stop_words": sorted(self.stop_words),
            "do_lower_case": self.do_lower_case,
            "ngram_separator": self.ngram_separator,
            "max_ngram_length": self.max_ngram_length,
        }

    def _phrase_length(self, word: str) -> int:
        """How many words a phrase has; 0 when it is none."""
        separator = self.ngram_separator
        # Tables made of web text hold entries such as `a__b`: no phrases.
        if separator is None or separator not in word or separator * 2 in word:
            return 0
        length = word.count(separator) + 1
        return length if length <= self.max_ngram_length else 0

    def _join(self, words: list[str], length: int) -> None:
        start = 0
        # A phrase shortens the list, and so the number of windows, as it goes.
        while start <= len(words) - length:
            joined = str(self.ngram_separator).join(words[start : start + length])
            found = next((form for form in (joined, joined.lower()) if form in self._phrases), None)
            if found is not None:
                words[start : start + length] = [found]
            start += 1


class TokenizerSplitter:
    """A whole tokenizer as the source of ids: special tokens, no truncation, no padding (spec section 9.4).

    Args:
        tokenizer: the text of its `tokenizer.json`.
        split_special_tokens: read a special token that a text quotes as the characters it is spelled with.

    Raises:
        InputError: this tokenizers release cannot read it.
    """

    def __init__(self, tokenizer: str, split_special_tokens: bool = False) -> None:
        try:
            self._tokenizer = Tokenizer.from_str(_checked("tokenizer", tokenizer, str))
        except InputError:
            raise
        except Exception as error:  # tokenizers raises bare Exception
            raise InputError(f"this tokenizers release cannot read the tokenizer: {one_line(error)}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # tokenizer.json cannot hold it
        self._tokenizer.encode_special_tokens = _checked("split_special_tokens", split_special_tokens, bool)

    def __call__(self, text: str) -> list[int]:
        with engine_call:
            found = self._tokenizer.encode(text)
        return list(found.ids)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "tokenizer",
            "tokenizer": self._tokenizer.to_str(),
            "split_special_tokens": self._tokenizer.encode_special_tokens,
        }


SPLITTERS: dict[str, Callable[..., Splitter]] = {
    "whitespace": WhitespaceSplitter,
    "phrase": PhraseSplitter,
    "tokenizer": TokenizerSplitter,
}


def splitter_from_json(value: dict[str, Any]) -> Splitter:
    """Builds the splitter that `to_json` described.

    Raises:
        KeyError, TypeError, ValueError: it describes none.
        MissingExtraError: the splitter needs a package that is not installed.
    """
    return SPLITTERS[value["kind"]](**{name: item for name, item in value.items() if name != "kind"})


def _look_up(
    words: Iterable[str], ids: dict[str, int], stop_words: frozenset[str], changes: tuple[Callable[[str], str], ...]
) -> list[int]:
    """Ids of the words that have one: each as it is, then after one change on top of the other."""
    found = []
    for word in words:
        form = word
        for change in (None, *changes):
            form = form if change is None else change(form)
            if form in stop_words:
                break
            # Stripped alone, a word of punctuation is not the vocabulary's empty word; sentence-transformers asks
            # again in lower case without that exception.
            if form in ids and (form or change is not _strip):
                found.append(ids[form])
                break
    return found


def _strip(word: str) -> str:
    return word.strip(string.punctuation)


def _words(name: str, value: Iterable[str]) -> list[str]:
    words = [] if isinstance(value, (str, bytes)) else list(value)
    if isinstance(value, (str, bytes)) or not all(isinstance(word, str) for word in words):
        raise InputError(f"{name} must be a list of words")
    return words


def _checked(name: str, value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind):
        raise InputError(f"{name} has the wrong type: {value!r:.80}")
    return value
