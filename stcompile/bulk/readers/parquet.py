"""Parquet: row groups are found by the footer, so that any rows can be read without those before."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stcompile.bulk.inputs import InputFile
from stcompile.bulk.readers.base import (
    MOST_BYTES,
    Rows,
    Scan,
    UnreadableError,
    Wanted,
    check_columns,
    problem_of,
    reading,
)
from stcompile.errors import InputError

# Rows that are decoded at a time, and bytes: sizes in a footer are those of values that repeat, once.
_BATCH = 256
_BATCH_BYTES = 4 << 20

_BUFFER = 1 << 20


class ParquetReader:
    """One Parquet file.

    A shard is larger than `MOST_BYTES` only where the footer hides it, in a dictionary of large texts that repeat.
    """

    def __init__(self, file: InputFile, wanted: Wanted) -> None:
        self._file = file
        self._wanted = wanted
        self._columns = list(dict.fromkeys((wanted.text, *wanted.carried)))
        with reading(file.address):
            self._stream = file.open()
            # Otherwise a row group is read whole, however large it is.
            self._parquet = pq.ParquetFile(self._stream, pre_buffer=False, buffer_size=_BUFFER)
        metadata = self._parquet.metadata
        self._groups = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
        self._ends = list(accumulate(self._groups))
        # Where it is: the group, the row that comes next, and what is decoded from there on.
        self._group = -1
        self._position = 0
        self._rest: pa.RecordBatch | None = None
        self._batches: Iterator[pa.RecordBatch] = iter(())

    def scan(self, most_rows: int) -> Scan:
        """As `Reader.scan`: by the footer alone."""
        schema = self._parquet.schema_arrow
        check_columns(self._file.address, self._wanted, schema.names, ": it has")
        kind = schema.field(self._wanted.text).type
        if not _is_text(kind):
            raise InputError(f"{self._file.address}: column {self._wanted.text!r} is {kind}, not text")
        carried = pa.schema(
            [(name, self._carried_type(name, schema.field(name).type)) for name in self._wanted.carried]
        )
        starts = self._starts(most_rows)
        return Scan(sum(self._groups), tuple(starts), carried)

    def read(self, start: int, stop: int, schema: pa.Schema) -> Rows:
        """As `Reader.read`; of a damaged row group the rows from the damage on are problems."""
        if stop > sum(self._groups):
            raise UnreadableError(f"it ends after row {sum(self._groups)}")
        found = Rows([], pa.table({}))
        tables: list[pa.Table] = []
        reason, lost = "", 0
        while (row := start + len(found.texts)) < stop:
            group = bisect.bisect_right(self._ends, row)
            last = min(stop, self._ends[group])
            try:
                with reading(self._file.address):
                    for batch in self._rows_of(group, row, last):
                        self._take(batch, schema, found, tables)
            except UnreadableError as error:
                first, rest = len(found.texts), last - start - len(found.texts)
                reason, lost = reason or str(error), lost + rest
                found.problems |= dict.fromkeys(range(first, first + rest), f"the file cannot be read here: {error}")
                found.texts += [None] * rest
                tables.append(pa.Table.from_arrays([pa.nulls(rest, item.type) for item in schema], schema=schema))
                found.is_damaged = True
        if lost == stop - start:
            raise UnreadableError(reason)
        found.table = pa.concat_tables(tables) if tables else schema.empty_table()
        return found

    def close(self) -> None:
        """As `Reader.close`."""
        self._stream.close()

    def _take(self, batch: pa.RecordBatch, schema: pa.Schema, found: Rows, tables: list[pa.Table]) -> None:
        """Adds a batch to what was found, or nothing of it where it is damaged."""
        values = _values(batch.column(self._wanted.text))
        problems: dict[int, str] = {}
        columns = []
        for item in schema:
            column = batch.column(item.name)
            column = column.cast(_plain(column.type))
            problems |= dict.fromkeys(_not_utf8(column), f"{item.name}: not UTF-8")
            columns.append(column.cast(item.type))
        for place, value in enumerate(values):
            problem = "not UTF-8" if isinstance(value, bytes) else problem_of(value)
            if problem is not None:
                problems[place] = problem
        before = len(found.texts)
        tables.append(pa.Table.from_arrays(columns, schema=schema))
        found.problems |= {before + place: problem for place, problem in problems.items()}
        found.texts += [None if place in problems else value for place, value in enumerate(values)]

    def _starts(self, most_rows: int) -> Iterator[int]:
        """First rows of shards of so many rows at most, and of `MOST_BYTES` as the footer tells each group's rows."""
        row = rows = 0
        size = 0.0
        for group, end in enumerate(self._ends):
            each = self._size(group) / max(self._groups[group], 1)
            while row < end:
                room = min(most_rows - rows, int((MOST_BYTES - size) / each) if each else most_rows)
                if room < 1 and rows:
                    rows, size = 0, 0.0
                    continue
                if not rows:
                    yield row
                taken = min(end - row, max(room, 1))
                row, rows, size = row + taken, rows + taken, size + taken * each

    def _size(self, group: int) -> int:
        """Bytes of the wanted columns of a row group, as they are stored before they are compressed."""
        found = self._parquet.metadata.row_group(group)
        columns = [found.column(index) for index in range(found.num_columns)]
        within = tuple(f"{name}." for name in self._columns)
        return sum(
            column.total_uncompressed_size
            for column in columns
            if column.path_in_schema in self._columns or column.path_in_schema.startswith(within)
        )

    def _carried_type(self, name: str, kind: pa.DataType) -> pa.DataType:
        plain = _plain(kind)
        try:
            pa.nulls(0, kind).cast(plain).take(pa.array([], pa.int64()))
        except pa.ArrowException as error:
            raise InputError(f"{self._file.address}: column {name!r} is {kind}, which cannot go along") from error
        return plain

    def _rows_of(self, group: int, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        """Rows of one group, which follow those that were read last or are looked for from the group's start."""
        if group != self._group or start < self._position:
            self._position, self._rest = self._ends[group] - self._groups[group], None
            self._batches = self._decoded(group)
        while self._position < stop:
            batch = self._next(group)
            taken, skipped = min(batch.num_rows, stop - self._position), max(start - self._position, 0)
            if taken < batch.num_rows:
                self._rest = batch.slice(taken)
            self._position += taken
            if taken > skipped:
                yield batch.slice(skipped, taken - skipped)

    def _next(self, group: int) -> pa.RecordBatch:
        # Whatever is raised here, the next rows are looked for from the start of their group.
        rest, self._rest, self._group = self._rest, None, -1
        batch = next(self._batches, None) if rest is None else rest
        if batch is None:
            raise UnreadableError(f"it ends after row {self._position}, its footer says {self._ends[-1]}")
        self._group = group
        return batch

    def _decoded(self, group: int) -> Iterator[pa.RecordBatch]:
        """A row group in batches of a few MB; the same ones whoever reads it, and with them what damage takes along."""
        each = self._size(group) / max(self._groups[group], 1)
        size = max(1, min(_BATCH, int(_BATCH_BYTES / max(each, 1))))
        given = 0
        while given < self._groups[group]:
            row = 0
            for batch in self._parquet.iter_batches(size, row_groups=[group], columns=self._columns):
                first, row = row, row + batch.num_rows
                if row <= given:
                    continue
                skipped, given = max(given - first, 0), row
                yield batch.slice(skipped)
                if batch.nbytes > 2 * _BATCH_BYTES and size > 1:
                    # The footer hid it.
                    size = max(1, min(size // 2, int(batch.num_rows * _BATCH_BYTES / batch.nbytes)))
                    break
            else:
                return


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return bool(is_text or pa.types.is_null(kind))


# Of views pyarrow cannot take rows.
_VIEWS = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


def _plain(kind: pa.DataType) -> pa.DataType:
    """Without views and dictionaries, which differ from file to file where the types of their values do not."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        items = [kind.field(place) for place in range(kind.num_fields)]
        return pa.struct([item.with_type(_plain(item.type)) for item in items])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        made = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return made(kind.value_field.with_type(_plain(kind.value_type)))
    return _VIEWS.get(kind, kind)


def _values(column: pa.Array) -> list[Any]:
    """Texts; bytes where they are no UTF-8."""
    try:
        found: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        return [_decoded(value) for value in column.cast(_plain(column.type)).cast(pa.large_binary()).to_pylist()]
    return found


def _decoded(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value


def _not_utf8(column: pa.Array) -> list[int]:
    """Rows with text that is none, at any depth."""
    if _is_utf8(column):
        return []
    return [place for place in range(len(column)) if not _is_utf8(column.take(pa.array([place])))]


def _is_utf8(column: pa.Array) -> bool:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error):
            raise
        return False
    return True
