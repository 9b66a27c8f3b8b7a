"""Files of one record after the other: rows are counted by reading them, and reached by reading those before."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import pyarrow as pa

from stcompile.bulk.inputs import InputFile
from stcompile.bulk.readers.base import MOST_BYTES, Rows, Scan, UnreadableError, Wanted, problem_of, reading
from stcompile.errors import InputError

# Records by which the types of the carried columns are known, and bytes of them, that few large ones are enough.
_TYPED_BY = 1000
_TYPED_BY_BYTES = 16 << 20

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
        starts, rows, begun, size, total = [0], 0, 0, 0, 0
        types = _Types(self._wanted)
        with reading(self._file.address):
            for record in self._records:
                length = self._size(record)
                if rows > begun and (rows - begun >= most_rows or size + length > MOST_BYTES):
                    starts.append(rows)
                    begun, size = rows, 0
                size += length
                total += length
                rows += 1
                if rows <= _TYPED_BY and total - length < _TYPED_BY_BYTES:
                    with contextlib.suppress(Problem):
                        types.see(self._parsed(record))
        self._begin()
        return Scan(rows, tuple(starts) if rows else (), types.schema(self._file.address))

    def read(self, start: int, stop: int, schema: pa.Schema) -> Rows:
        """As `Reader.read`."""
        if start < self._position:
            self._begin()
        position, self._position = self._position, sys.maxsize
        with reading(self._file.address):
            # What goes before is read, not parsed.
            for _ in islice(self._records, start - position):
                pass
            found = list(islice(self._records, stop - start))
            if len(found) < stop - start:
                raise UnreadableError(f"it ends after row {start + len(found)}")
            rows = self._rows(found, schema)
        self._position = stop
        return rows

    def close(self) -> None:
        """As `Reader.close`."""
        if self._stream is not None:
            self._stream.close()

    def _begin(self) -> None:
        self.close()
        # Whatever ends reading too early, the next row is looked for from the start.
        self._position = sys.maxsize
        with reading(self._file.address):
            self._stream = raw = self._file.open()
            if self._file.compression is not None:
                raw = pa.CompressedInputStream(pa.PythonFile(raw, "r"), self._file.compression)
            lines = io.BufferedReader(raw, _BUFFER)
            if lines.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                # Line by line some of it would be UTF-8, and each letter a text of two.
                raise UnreadableError("UTF-16, not UTF-8: convert it first")
            self._records = self._split(lines)
        self._position = 0

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
            for field in schema:
                columns[field.name].append(carried(fields.get(field.name), field.type))
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


class _Types:
    """What the first records tell of the columns: whether they are there, and the types of the carried ones."""

    def __init__(self, wanted: Wanted) -> None:
        self._text = wanted.text
        self._has_text = False
        # A value for each record that has the column; texts, whose type needs none of their letters, are empty.
        self._values: dict[str, list[Any]] = {name: [] for name in wanted.carried}
        self._first: list[str] = []
        self._records = 0

    def see(self, fields: Mapping[str, Any]) -> None:
        self._first = self._first or list(fields)
        self._records += 1
        self._has_text = self._has_text or self._text in fields
        for name, values in self._values.items():
            if name in fields:
                value = fields[name]
                values.append("" if isinstance(value, (str, dict, list)) else value)

    def schema(self, address: str) -> pa.Schema:
        """Of the carried columns; null where no record has a value.

        Raises:
            InputError: a column, that of the texts too, is in none of them, or of several types.
        """
        there = {self._text: self._has_text, **{name: bool(values) for name, values in self._values.items()}}
        missing = next((name for name, is_there in there.items() if not is_there), None)
        if self._records and missing is not None:
            raise InputError(
                f"{address} has no field {missing!r} in its first {self._records} rows: they have "
                f"{', '.join(map(repr, self._first))}"
            )
        fields = []
        for name, values in self._values.items():
            try:
                fields.append(pa.field(name, _type_of(values)))
            except (pa.ArrowException, OverflowError) as error:
                raise InputError(
                    f"{address}: {name!r} is of several types in its first {self._records} rows: make them one, or "
                    "leave it out"
                ) from error
        return pa.schema(fields)


def _type_of(values: list[Any]) -> pa.DataType:
    try:
        return pa.array(values).type if values else pa.null()
    except OverflowError:
        # Arrow takes whole numbers for signed ones.
        return pa.array(values, pa.uint64()).type


def carried(value: Any, kind: pa.DataType) -> Any:
    """A value as a column takes it: what holds other values, and in a column of texts what is none, goes as JSON."""
    is_of_texts = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    is_other = is_of_texts and value is not None and not isinstance(value, str)
    return json.dumps(value, ensure_ascii=False) if is_other or isinstance(value, (dict, list)) else value


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
        except UnicodeEncodeError:
            wrong[place], kept[place] = str(problem_of(value)), None
        except (pa.ArrowException, OverflowError):
            wrong[place], kept[place] = f"{type(value).__name__}, not {kind}", None
    return pa.array(kept, kind), wrong
