"""What every reader of files gives, and what may keep a row from being encoded."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from stcompile.bulk.inputs import not_read
from stcompile.bulk.store import reason_of
from stcompile.errors import InputError, StcompileError

# Stored bytes of a shard's columns, so that memory is bounded however long texts are.
MOST_BYTES = 64 << 20


class UnreadableError(Exception):
    """A file is damaged: it, or what is left of it, cannot be read, however often; the reason in plain words."""


@contextlib.contextmanager
def reading(address: str) -> Iterator[None]:
    """Wraps what reads a file, and tells damage of it from what may be over in a moment.

    Raises:
        UnreadableError: what is stored there cannot be decoded.
        StcompileError: it could not be read this time.
    """
    try:
        yield
    except (StcompileError, UnreadableError):
        raise
    except MemoryError as error:
        raise not_read(address, error) from error
    except (OSError, pa.ArrowException, EOFError, zlib.error, ValueError) as error:
        # Arrow raises OSError of its own, which has no number, for pages and blocks that it cannot decode.
        if isinstance(error, OSError) and error.errno is not None:
            raise not_read(address, error) from error
        raise UnreadableError(reason_of(error)) from error


@dataclass(frozen=True)
class Wanted:
    """The columns that a job reads.

    Attributes:
        text: of the texts.
        carried: that go along.
    """

    text: str
    carried: tuple[str, ...] = ()


@dataclass
class Rows:
    """Some rows of a file, in order.

    Attributes:
        texts: each row's text; None where it has none that can be encoded.
        table: their carried columns.
        problems: the reason of each row that has no text, or that the job's columns cannot hold, by its place.
        is_damaged: whether some of these are there because the file cannot be read there.
    """

    texts: list[str | None]
    table: pa.Table
    problems: dict[int, str] = field(default_factory=dict)
    is_damaged: bool = False


@dataclass(frozen=True)
class Scan:
    """What a file holds.

    Attributes:
        rows: of it.
        starts: the first row of each shard.
        schema: of the carried columns.
    """

    rows: int
    starts: tuple[int, ...]
    schema: pa.Schema


class Reader(Protocol):
    """Reads one file. Rows that follow each other are read once; to go back begins anew."""

    def scan(self, most_rows: int) -> Scan:
        """Counts the rows and cuts them into shards of at most so many.

        Raises:
            UnreadableError: the file is damaged.
            InputError: it lacks a column, has two of one name, or one of another type is asked for.
            StcompileError: it cannot be read now.
        """

    def read(self, start: int, stop: int, schema: pa.Schema) -> Rows:
        """The rows from one to before another, their carried columns in a given schema.

        Raises:
            UnreadableError: the file is damaged, and none of them can be read.
            StcompileError: it cannot be read now.
        """

    def close(self) -> None:
        """Lets go of the file."""


def problem_of(value: Any) -> str | None:
    """Why a value is no text that can be encoded; None where it is one."""
    if value is None:
        return "null"
    if not isinstance(value, str):
        return f"{type(value).__name__}, not text"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "half of a surrogate pair, which is no text"
    return None


def check_columns(address: str, wanted: Wanted, names: list[str], where: str) -> None:
    """Whether each wanted column is there once.

    Args:
        address: of the file.
        wanted: the columns.
        names: that the file has.
        where: it has them, for the sentence.

    Raises:
        InputError: one is not there, or there are several.
    """
    for name in (wanted.text, *wanted.carried):
        if name not in names:
            raise InputError(f"{address} has no column {name!r}{where} {', '.join(map(repr, names))}")
        if (count := names.count(name)) > 1:
            raise InputError(f"{address} has {count} columns {name!r}: give each one a name of its own")
