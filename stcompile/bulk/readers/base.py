"""What every reader of files gives, and what may keep a row from being encoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

# Stored bytes of texts that a shard may have, so that memory is bounded however long they are.
MOST_BYTES = 64 << 20


class UnreadableError(Exception):
    """A file, or what is left of it, cannot be read; the reason in plain words."""


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
    """

    texts: list[str | None]
    table: pa.Table
    problems: dict[int, str] = field(default_factory=dict)


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
            UnreadableError: the file is broken.
            InputError: it lacks a column, or one of another type is asked for.
        """

    def read(self, start: int, stop: int, schema: pa.Schema) -> Rows:
        """The rows from one to before another, their carried columns in a given schema.

        Raises:
            UnreadableError: the file is broken there.
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
