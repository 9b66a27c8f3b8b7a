"""Parquet: row groups are found by the footer, so that any rows can be read without those before."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from itertools import accumulate, chain
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stcompile.bulk.inputs import InputFile
from stcompile.bulk.readers.base import MOST_BYTES, Rows, Scan, UnreadableError, Wanted, problem_of
from stcompile.errors import InputError, one_line

# Rows that are decoded at a time.
_BATCH = 4096


class ParquetReader:
    """One Parquet file."""

    def __init__(self, file: InputFile, wanted: Wanted) -> None:
        self._file = file
        self._wanted = wanted
        try:
            self._stream = file.open()
            self._parquet = pq.ParquetFile(self._stream)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UnreadableError(_reason(error)) from error
        metadata = self._parquet.metadata
        groups = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
        self._ends = list(accumulate(groups))
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._held: list[pa.RecordBatch] = []
        # Of the first row that is held or comes next.
        self._position = 0
        self._begin(0)

    def scan(self, most_rows: int) -> Scan:
        """As `Reader.scan`: by the footer alone."""
        schema = self._parquet.schema_arrow
        names = (self._wanted.text, *self._wanted.carried)
        for name in names:
            if name not in schema.names:
                known = ", ".join(map(repr, schema.names))
                raise InputError(f"{self._file.address} has no column {name!r}: it has {known}")
        kind = schema.field(self._wanted.text).type
        if not _is_text(kind):
            raise InputError(f"{self._file.address}: column {self._wanted.text!r} is {kind}, not text")
        rows = self._parquet.metadata.num_rows
        size = self._parquet.metadata
        stored = sum(
            size.row_group(group).column(column).total_uncompressed_size
            for group in range(size.num_row_groups)
            for column in range(size.num_columns)
            if size.row_group(group).column(column).path_in_schema.partition(".")[0] in names
        )
        most = max(1, min(most_rows, int(rows * MOST_BYTES / stored) if stored else most_rows))
        carried = pa.schema([pa.field(name, _plain(schema.field(name).type)) for name in self._wanted.carried])
        return Scan(rows, tuple(range(0, rows, most)), carried)

    def read(self, start: int, stop: int, schema: pa.Schema) -> Rows:
        """As `Reader.read`."""
        if start < self._position or self._group(start) > self._group(self._position):
            self._begin(start)
        try:
            table = self._taken(start, stop)
            carried = table.select(list(self._wanted.carried)).cast(schema)
            values = _values(table[self._wanted.text])
        except (pa.ArrowException, OSError, ValueError) as error:
            self._begin(stop)
            raise UnreadableError(_reason(error)) from error
        problems = {place: problem for place, value in enumerate(values) if (problem := problem_of(value)) is not None}
        for place, value in enumerate(values):
            if isinstance(value, bytes):
                problems[place] = "not UTF-8"
        return Rows([None if place in problems else value for place, value in enumerate(values)], carried, problems)

    def close(self) -> None:
        """As `Reader.close`."""
        self._stream.close()

    def _group(self, row: int) -> int:
        return bisect.bisect_right(self._ends, row)

    def _begin(self, row: int) -> None:
        """Goes to the row group of a row."""
        group = self._group(row)
        self._position = 0 if group == 0 else self._ends[group - 1]
        self._held = []
        columns = list(dict.fromkeys((self._wanted.text, *self._wanted.carried)))
        # One group after the other: what is broken in one is no fault of the one before.
        self._batches = chain.from_iterable(
            self._parquet.iter_batches(_BATCH, row_groups=[index], columns=columns)
            for index in range(group, len(self._ends))
        )

    def _taken(self, start: int, stop: int) -> pa.Table:
        """The rows, after leaving out those before."""
        found: list[pa.RecordBatch] = []
        while self._position < stop:
            batch = self._held.pop() if self._held else next(self._batches, None)
            if batch is None:
                raise UnreadableError(f"it ends after row {self._position}, its footer says {self._ends[-1]}")
            first, last = self._position, self._position + batch.num_rows
            if last > stop:
                self._held.append(batch.slice(stop - first))
                last = stop
            if last > start:
                found.append(batch.slice(max(start - first, 0), last - max(start, first)))
            self._position = last
        return pa.Table.from_batches(found)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return bool(is_text or pa.types.is_null(kind))


def _plain(kind: pa.DataType) -> pa.DataType:
    """Dictionaries differ from file to file, the types of their values need not; of views pyarrow cannot take rows."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string_view(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary_view(kind) else kind


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Texts; bytes where they are no UTF-8."""
    try:
        found: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        return [_decoded(value) for value in column.cast(pa.large_binary()).to_pylist()]
    return found


def _decoded(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value


def _reason(error: Exception) -> str:
    words = one_line(error, None)
    return words[:200] or type(error).__name__
