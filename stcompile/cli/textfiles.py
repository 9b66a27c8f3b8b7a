"""Reading texts and writing vectors: plain lines, JSONL, CSV, `.npy`."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from stcompile.artifact.writing import is_full
from stcompile.cli.console import write_out
from stcompile.errors import InputError
from stcompile.runtime.arguments import local_path
from stcompile.runtime.tables import DIALECTS, is_blank, long_rows

STDIN = "-"

# What files that are read through --input begin with.
_NO_TEXT = {b"PAR1": "Parquet", b"\x1f\x8b": "compressed", b"\x28\xb5\x2f\xfd": "compressed"}


def read_texts(path: str, field: str = "text") -> list[str]:
    """All texts of `texts_of`."""
    return list(texts_of(path, field))


def texts_of(path: str, field: str = "text") -> Iterator[str]:
    """Texts from a file or, for `-`, from standard input, one by one.

    A line that is a JSON object is read as JSONL when the name ends in `.jsonl` or, on standard input, when the
    first line starts with a brace; a name that ends in `.csv` or `.tsv` is a table whose first row that is not blank
    names the columns; otherwise a line is a text. Capitals in an ending are the same. A byte order mark is no part of
    the first line.

    Args:
        path: the file, or `-`.
        field: JSONL's field, or the table's column.

    Raises:
        InputError: unreadable, not UTF-8, malformed, JSON that is no JSONL by its name, or without a single text; where
            it is reached.
    """
    is_empty = True
    try:
        for text in _all_of(path, field):
            is_empty = False
            yield text
    except UnicodeDecodeError as error:
        raise InputError(_no_text(path) or f"{path} is not UTF-8 text ({error.reason}): convert it first") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except csv.Error as error:
        raise InputError(f"{path} is not a table ({error}): check its quotes") from error
    if is_empty:
        raise InputError(f"{path} holds no text: nothing to do")


def _all_of(path: str, field: str) -> Iterator[str]:
    if path == STDIN:
        # Python's own stream keeps a byte order mark and, without a locale, lets other bytes through as surrogates.
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(encoding="utf-8-sig", errors="strict")
        yield from _texts(sys.stdin, path, field, None)
        return
    file = local_path(path)
    ending = file.suffix.lower().removeprefix(".")
    if ending == "json":
        raise InputError(f"{path} is JSON: write an object a line, and name it .jsonl")
    with file.open(encoding="utf-8-sig", newline="" if ending in DIALECTS else None) as stream:
        if ending in DIALECTS:
            yield from _column(csv.reader(stream, strict=True, **DIALECTS[ending]), path, field)
        else:
            yield from _texts(stream, path, field, ending in ("jsonl", "ndjson"))


def _no_text(path: str) -> str:
    """What to do with a file of another kind; empty where that is not known."""
    begin = b""
    if path != STDIN:
        with contextlib.suppress(OSError), local_path(path).open("rb") as stream:
            begin = stream.read(max(map(len, _NO_TEXT)))
    kind = next((kind for magic, kind in _NO_TEXT.items() if begin.startswith(magic)), None)
    if kind is None:
        return ""
    return f"{path} is {kind}: encode reads that through --input, into a folder; elsewhere convert it to JSONL first"


def read_share(text: str) -> float:
    """A share as people write it: `0.3%` or `0.003`.

    Raises:
        InputError: it is no number, or not above 0 and below 1.
    """
    number, sign, rest = text.strip().partition("%")
    try:
        share = float(number) / (100 if sign else 1)
    except ValueError:
        share = 0.0
    if rest or not 0 < share < 1:
        raise InputError(f"{text!r} is no share: write it like 0.3% or 0.003, above 0 and below 1")
    return share


def write_jsonl(path: str, rows: Iterable[dict[str, Any]]) -> None:
    """One object a line, to a file or, for `-`, to standard output.

    Each line is written when its row is there. A file is at its place once it is whole.

    Args:
        path: the file, or `-`.
        rows: what JSON can carry.

    Raises:
        InputError: the destination cannot be written.
    """
    if path == STDIN:
        for row in rows:
            write_out(_line(row))
        sys.stdout.flush()
        return
    with _written(local_path(path)) as write:
        for row in rows:
            write(_line(row).encode())


def write_npy(path: Path, rows: Iterable[NDArray[Any]]) -> None:
    """The matrix `(n, dim)`, to a file, each row when it is there; the file is at its place once it is whole.

    Args:
        path: the file.
        rows: vectors `(dim,)` of one number type, at least one.

    Raises:
        InputError: the destination cannot be written.
    """
    with _written(path) as write:
        count = 0
        for row in rows:
            if not count:
                first = row
                write(_npy_header(0, first))
            write(row.tobytes())
            count += 1
        # numpy leaves room in the header for any number of rows.
        write(_npy_header(count, first), at=0)


def write_bytes(path: Path, save: Callable[[io.BytesIO], object]) -> None:
    """What `save` writes, to a file that is at its place once it is whole.

    Raises:
        InputError: the destination cannot be written.
    """
    content = io.BytesIO()
    save(content)
    with _written(path) as write:
        write(content.getvalue())


def write_text(path: Path, content: str) -> None:
    """UTF-8, as `write_bytes`."""
    write_bytes(path, lambda place: place.write(content.encode()))


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Arrays by their names as `.npz`, as `write_bytes`."""
    content: dict[str, Any] = {**arrays}
    write_bytes(path, lambda place: np.savez(place, **content))


def _npy_header(count: int, row: NDArray[Any]) -> bytes:
    header = io.BytesIO()
    array = {"descr": npy.dtype_to_descr(row.dtype), "fortran_order": False, "shape": (count, *row.shape)}
    npy.write_array_header_1_0(header, array)
    return header.getvalue()


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


class _Write(Protocol):
    def __call__(self, content: bytes, at: int | None = None) -> None: ...


@contextlib.contextmanager
def _written(path: Path) -> Iterator[_Write]:
    """What writes to `path`, which is there once all is written; of other errors than its own nothing is said here."""
    with moved_into_place(path) as partial:
        with destination_errors(path):
            stream = partial.open("wb")

        def write(content: bytes, at: int | None = None) -> None:
            with destination_errors(path):
                if at is not None:
                    stream.seek(at)
                stream.write(content)

        try:
            yield write
            with destination_errors(path):
                stream.close()
        finally:
            # What could not be written cannot be at the end either.
            with contextlib.suppress(OSError):
                stream.close()


@contextlib.contextmanager
def destination_errors(path: Path) -> Iterator[None]:
    """Says of an operating system's error that it is about `path`.

    Raises:
        InputError: the destination cannot be written.
    """
    try:
        yield
    except OSError as error:
        reason = "no space left" if is_full(error) else error.strerror or error
        raise InputError(f"{path} cannot be written ({reason}): choose another destination") from error


def check_place(path: Path) -> None:
    """Whether a file can be put there, asked before the work for it is done. Nothing is left of the question.

    Raises:
        InputError: the destination cannot be written.
    """
    with destination_errors(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        probe = _partial(path)
        try:
            probe.touch()
        finally:
            probe.unlink(missing_ok=True)


@contextlib.contextmanager
def moved_into_place(path: Path) -> Iterator[Path]:
    """Where to write what becomes `path` once it is whole; after an error nothing is left of it.

    Raises:
        InputError: the destination cannot be written.
    """
    partial = _partial(path)
    try:
        yield partial
        with destination_errors(path):
            partial.replace(path)
    finally:
        # Where it could not be written it cannot be removed either, and the reason why not is on its way.
        with contextlib.suppress(OSError):
            partial.unlink()


def _partial(path: Path) -> Path:
    # Not the process's number, which another container has too.
    return path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")


def _column(reader: Iterator[list[str]], path: str, field: str) -> Iterator[str]:
    rows = enumerate(long_rows(reader), start=1)
    names = next((row for _, row in rows if not is_blank(row)), [])
    if field not in names:
        known = ", ".join(map(repr, names)) or "no columns"
        raise InputError(f"{path} has no column {field!r} in its first row, which has {known}: name one of them")
    if names.count(field) > 1:
        raise InputError(f"{path} has {names.count(field)} columns {field!r}: give each one a name of its own")
    place = names.index(field)
    for number, row in rows:
        if not row:
            continue
        if len(row) != len(names):
            raise InputError(f"row {number} of {path} has {len(row)} values for {len(names)} columns: check its quotes")
        yield row[place]


def _texts(stream: IO[str], path: str, field: str, as_json: bool | None) -> Iterator[str]:
    for number, line in enumerate(stream, start=1):
        stripped = line.rstrip("\r\n")
        if as_json is None:
            as_json = stripped.startswith("{")
        if not as_json:
            yield stripped
            continue
        if not stripped.strip():
            continue
        try:
            text = json.loads(stripped)[field]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"line {number} of {path} is not a JSON object with the field {field!r}") from error
        if not isinstance(text, str):
            raise InputError(f"line {number} of {path}: {field!r} is {type(text).__name__}, not text")
        yield text
