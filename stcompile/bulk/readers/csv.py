"""CSV and TSV: the first row names the columns. TSV has no quotes: a tab ends a value, a line end a row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from stcompile.bulk.inputs import InputFile
from stcompile.bulk.readers.base import UnreadableError, Wanted, check_columns
from stcompile.bulk.readers.records import Problem, RecordReader
from stcompile.runtime.tables import DIALECTS, is_blank, long_rows


class CsvReader(RecordReader):
    """One table of text. Its values are text, whatever they look like."""

    def __init__(self, file: InputFile, wanted: Wanted) -> None:
        self._names: list[str] = []
        super().__init__(file, wanted)

    def _check(self) -> None:
        if self._names:
            check_columns(self._file.address, self._wanted, self._names, " in its first row, which has")

    def _split(self, lines: io.BufferedReader) -> Iterator[list[str] | Problem]:
        # Bytes that are no UTF-8 stay recognisable, and concern their own value alone.
        text = io.TextIOWrapper(lines, encoding="utf-8-sig", errors="surrogateescape", newline="")
        rows = csv.reader(text, strict=True, **DIALECTS[self._file.format])
        try:
            self._names = next((row for row in long_rows(rows) if not is_blank(row)), [])
        except csv.Error as error:
            raise UnreadableError(f"its first row is none of a table ({error})") from error
        return self._rest(rows)

    def _rest(self, rows: Any) -> Iterator[list[str] | Problem]:
        """The rows after the first; of one that is none the lines are told, which may have been meant as several."""
        while True:
            before = rows.line_num
            try:
                row = next(long_rows(rows))
            except StopIteration:
                return
            except csv.Error as error:
                if str(error) == "unexpected end of data":
                    raise UnreadableError(f"a quote in the row of line {before + 1} is never closed") from error
                yield Problem(f"not a row of a table ({error}; {_lines(before, rows.line_num)})")
                continue
            if row and len(row) != len(self._names):
                lines = _lines(before, rows.line_num)
                yield Problem(f"{len(row)} values for {len(self._names)} columns ({lines})")
            elif row:
                yield row

    def _size(self, record: list[str] | Problem) -> int:
        return 0 if isinstance(record, Problem) else sum(map(len, record))

    def _parsed(self, record: list[str] | Problem) -> Mapping[str, str]:
        if isinstance(record, Problem):
            raise record
        fields = dict(zip(self._names, record, strict=True))
        for name in (self._wanted.text, *self._wanted.carried):
            value = fields[name]
            if not value.isascii() and any("\udc80" <= letter <= "\udcff" for letter in value):
                raise Problem("not UTF-8" if name == self._wanted.text else f"{name}: not UTF-8")
        return fields


def _lines(before: int, last: int) -> str:
    return f"line {last}" if last <= before + 1 else f"lines {before + 1} to {last}"
