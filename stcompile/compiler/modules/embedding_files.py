"""Word vectors in text files, as GloVe and word2vec are published."""

from __future__ import annotations

import gzip
import logging
import zlib
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from stcompile.errors import InputError

logger = logging.getLogger("stcompile")

# The first row belongs to padding, and is zero.
_PADDING = "PADDING_TOKEN"


def read_embeddings(
    path: Path, item_separator: str = " ", max_vocab_size: int | None = None
) -> tuple[list[str], NDArray[np.float32]]:
    """Reads a file of one word and its numbers a line; gzipped where its name ends in `.gz`.

    A line of two items in front of all others is word2vec's header and is left out. Lines with another number of
    items than the first are skipped, with one warning that counts them. Repeated words keep all their rows.

    Args:
        path: the file, UTF-8.
        item_separator: stands between the items of a line.
        max_vocab_size: stop after so many words; None or less than 1 reads them all.

    Returns:
        the words, `PADDING_TOKEN` first, and a float32 table `(words, dim)` whose first row is zero.

    Raises:
        InputError: there is no such file, it is not such a file, or it holds something else than numbers.
    """
    if not path.is_file():
        raise InputError(f"there is no file of word vectors at {path}: download it first, nothing is fetched here")
    reader = _Reader(item_separator, max_vocab_size)
    try:
        with _opened(path) as file:
            for number, line in enumerate(_with_progress(file), start=1):
                if reader.is_full:
                    break
                reader.take(line, f"{path.name}, line {number}")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text ({error}): download it again") from error
    if not reader.width:
        raise InputError(f"{path} has no line with a word and its numbers: check the file and item_separator")
    if reader.skipped:
        logger.warning("%s: skipped %d lines that do not have %d numbers", path.name, reader.skipped, reader.width)
    return reader.words, np.frombuffer(reader.numbers, dtype=np.float32).reshape(-1, reader.width)


class _Reader:
    """Takes line after line. Four bytes a number: a table of millions of words must fit."""

    def __init__(self, separator: str, limit: int | None) -> None:
        self._separator = separator
        self._limit = limit if limit is not None and limit > 0 else None
        self.words: list[str] = []
        self.numbers = array("f")
        self.width = 0
        self.skipped = 0

    @property
    def is_full(self) -> bool:
        return self._limit is not None and len(self.words) > self._limit

    def take(self, line: str, place: str) -> None:
        word, *items = line.rstrip().split(self._separator)
        if not self.words and len(items) == 1:
            return
        if not self.words and items:
            self.width = len(items)
            self.words.append(_PADDING)
            self.numbers.extend([0.0] * self.width)
        if len(items) != self.width or not items:
            self.skipped += 1
            return
        try:
            row = [float(item) for item in items]
        except ValueError as error:
            raise InputError(f"{place} holds something that is not a number ({error}): check item_separator") from error
        self.numbers.extend(row)
        self.words.append(word)


def _opened(path: Path) -> IO[str]:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def _with_progress(lines: Iterable[str]) -> Iterator[str]:
    try:
        from tqdm import tqdm  # noqa: PLC0415 - not everywhere, and nothing is lost without it
    except ImportError:
        return iter(lines)
    return iter(tqdm(lines, desc="Load Word Embeddings", unit="Embeddings"))
