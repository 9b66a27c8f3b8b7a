"""Files of one record after the other: rows are counted by reading them, and reached by reading those before."""

from __future__ import annotations

import io
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import pyarrow as pa

from stcompile.bulk.inputs import InputFile
from stcompile.bulk.readers.base import MOST_BYTES, Rows, Scan, UnreadableError, Wanted, problem_of
from stcompile.errors import InputError, one_line

# Records by which the types of the carried columns are known.
_TYPED_BY = 1000

_BUFFER = 1 << 20


class Problem(Exception):
    """Why a record is no row."""


class RecordReader(ABC):
    """One file of records.

    Args:
        file: it.
        wanted: the columns of the job.
    """

    def __init__(self, file: InputFile, wanted: Wanted) -> None:
        self._file = file
        self._wanted = wanted
        self._stream: Any = None
        self._records: Iterator[Any] = iter(())
        self._position = 0
        self._begin()

    @abstractmethod
    def _split(self, lines: io.BufferedReader) -> Iterator[Any]:
        """The records as they are stored."""

    @abstractmethod
    def _size(self, record: Any) -> int:
        """Bytes of one."""

    @abstractmethod
    def _parsed(self, record: Any) -> Mapping[str, Any]:
        """A record's fields; raises `Problem` where it is none."""

    def _check(self) -> None:
        """Raises `InputError` where the file cannot have the wanted columns; called before anything is read."""
        return

    def scan(self, most_rows: int) -> Scan:
        """As `Reader.scan`."""
        self._begin()
        self._check()
        starts, rows, begun, size = [0], 0, 0, 0
        first: list[Any] = []
        with _Unreadable():
            for record in self._records:
                length = self._size(record)
                if rows > begun and (rows - begun >= most_rows or size + length > MOST_BYTES):
                    starts.append(rows)
                    begun, size = rows, 0
                size += length
                rows += 1
                if len(first) < _TYPED_BY:
                    first.append(record)
        self._begin()
        return Scan(rows, tuple(starts) if rows else (), self._schema(first))

    def read(self, start: int, stop: int, schema: pa.Schema) -> Rows:
        """As `Reader.read`."""
        if start < self._position:
            self._begin()
        with _Unreadable():
            # What goes before is read, not parsed.
            for _ in islice(self._records, start - self._position):
                pass
            found = list(islice(self._records, stop - start))
        self._position = stop
        if len(found) < stop - start:
            raise UnreadableError(f"it ends after row {start + len(found)}")
        return self._rows(found, schema)

    def close(self) -> None:
        """As `Reader.close`."""
        if self._stream is not None:
            self._stream.close()

    def _begin(self) -> None:
        self.close()
        try:
            self._stream = self._file.open()
        except OSError as error:
            raise UnreadableError(str(error.strerror or error)) from error
        self._position = 0
        with _Unreadable():
            raw = self._stream
            if self._file.compression is not None:
                raw = pa.CompressedInputStream(pa.PythonFile(raw, "r"), self._file.compression)
            self._records = self._split(io.BufferedReader(raw, _BUFFER))

    def _rows(self, found: list[Any], schema: pa.Schema) -> Rows:
        texts: list[str | None] = []
        problems: dict[int, str] = {}
        columns: dict[str, list[Any]] = {name: [] for name in schema.names}
        for place, record in enumerate(found):
            try:
                fields = self._parsed(record)
                has_text = self._wanted.text in fields
                problem = problem_of(fields[self._wanted.text]) if has_text else f"no field {self._wanted.text!r}"
            except Problem as error:
                fields, problem = {}, str(error)
            if problem is not None:
                problems[place] = problem
            texts.append(None if problem else fields[self._wanted.text])
            for name, values in columns.items():
                values.append(carried(fields.get(name)))
        arrays = []
        for field in schema:
            array, wrong = _array(columns[field.name], field.type)
            for place, problem in wrong.items():
                problems.setdefault(place, f"{field.name}: {problem}")
                texts[place] = None
            arrays.append(array)
        # A table of no column has no rows either.
        table = pa.Table.from_arrays(arrays, schema=schema) if arrays else pa.table({})
        return Rows(texts, table, problems)

    def _schema(self, first: list[Any]) -> pa.Schema:
        """The types of the carried columns, by the first records."""
        known = []
        for record in first:
            try:
                known.append(self._parsed(record))
            except Problem:
                continue
        fields = []
        for name in self._wanted.carried:
            values = [carried(item[name]) for item in known if name in item]
            if known and not values:
                raise InputError(
                    f"{self._file.address} has no field {name!r} in its first {len(first)} rows: they have "
                    f"{', '.join(map(repr, known[0]))}"
                )
            try:
                fields.append(pa.field(name, pa.array(values).type if values else pa.null()))
            except (pa.ArrowException, OverflowError) as error:
                raise InputError(
                    f"{self._file.address}: {name!r} is of several types in its first {len(first)} rows: make "
                    "them one, or leave it out"
                ) from error
        return pa.schema(fields)


class _Unreadable:
    """Tells what decompressing and reading raise as of the file."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (OSError, pa.ArrowException, EOFError, zlib.error)):
            raise UnreadableError(one_line(error, 200) or type(error).__name__) from error


def carried(value: Any) -> Any:
    """A value as a column takes it: what holds other values goes along as JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value


def _array(values: list[Any], kind: pa.DataType) -> tuple[pa.Array, dict[int, str]]:
    """A column, null where a value is not of its type, and what was wrong there."""
    try:
        return pa.array(values, kind), {}
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        pass
    wrong, kept = {}, list(values)
    for place, value in enumerate(values):
        try:
            pa.scalar(value, kind)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            wrong[place], kept[place] = f"{type(value).__name__}, not {kind}", None
    return pa.array(kept, kind), wrong
