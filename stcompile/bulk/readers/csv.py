"""CSV and TSV: the first row names the columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping

from stcompile.bulk.inputs import InputFile
from stcompile.bulk.readers.base import UnreadableError, Wanted
from stcompile.bulk.readers.records import Problem, RecordReader
from stcompile.errors import InputError

_DELIMITERS = {"csv": ",", "tsv": "\t"}

# Python stops at 128 KiB, which a document may have.
_LONGEST = 1 << 30


class CsvReader(RecordReader):
    """One table of text. Its values are text, whatever they look like."""

    def __init__(self, file: InputFile, wanted: Wanted) -> None:
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST))
        self._names: list[str] = []
        super().__init__(file, wanted)

    def _check(self) -> None:
        if not self._names:
            return
        for name in (self._wanted.text, *self._wanted.carried):
            if name not in self._names:
                known = ", ".join(map(repr, self._names))
                raise InputError(f"{self._file.address} has no column {name!r} in its first row, which has {known}")

    def _split(self, lines: io.BufferedReader) -> Iterator[list[str] | csv.Error]:
        # Bytes that are no UTF-8 stay recognisable, and concern their own row alone.
        text = io.TextIOWrapper(lines, encoding="utf-8-sig", errors="surrogateescape", newline="")
        rows = csv.reader(text, delimiter=_DELIMITERS[self._file.format], strict=True)
        try:
            self._names = next(rows, [])
        except csv.Error as error:
            raise UnreadableError(f"its first row is none of a table ({error})") from error
        return self._rest(rows)

    def _rest(self, rows: Iterator[list[str]]) -> Iterator[list[str] | csv.Error]:
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield error
                continue
            if row:
                yield row

    def _size(self, record: list[str] | csv.Error) -> int:
        return 0 if isinstance(record, csv.Error) else sum(map(len, record))

    def _parsed(self, record: list[str] | csv.Error) -> Mapping[str, str]:
        if isinstance(record, csv.Error):
            raise Problem(f"not a row of a table ({record})")
        if len(record) != len(self._names):
            raise Problem(f"{len(record)} values for {len(self._names)} columns")
        for value in record:
            if not value.isascii() and any("\udc80" <= letter <= "\udcff" for letter in value):
                raise Problem("not UTF-8")
        return dict(zip(self._names, record, strict=True))
