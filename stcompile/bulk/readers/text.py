"""Plain text: a line is a text."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator, Mapping

from stcompile.bulk.readers.records import Problem, RecordReader
from stcompile.errors import InputError


class TextReader(RecordReader):
    """One file of lines. A byte order mark is no part of the first one."""

    def _check(self) -> None:
        if self._wanted.carried:
            raise InputError(f"{self._file.address} is plain text and has no column {self._wanted.carried[0]!r}")

    def _split(self, lines: io.BufferedReader) -> Iterator[bytes]:
        for number, line in enumerate(lines):
            yield (line if number else line.removeprefix(codecs.BOM_UTF8)).rstrip(b"\r\n")

    def _size(self, record: bytes) -> int:
        return len(record)

    def _parsed(self, record: bytes) -> Mapping[str, str]:
        return {self._wanted.text: decoded(record)}


def decoded(line: bytes) -> str:
    """A line's text.

    Raises:
        Problem: it is no UTF-8.
    """
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise Problem(f"not UTF-8 ({error.reason} at byte {error.start})") from error
