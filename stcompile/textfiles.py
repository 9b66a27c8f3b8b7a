"""Reading texts and writing vectors: plain lines, JSONL, CSV, `.npy`."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact.writing import is_full
from stcompile.errors import InputError
from stcompile.scored_pairs import TABLE_DELIMITERS

STDIN = "-"


def read_texts(path: str, field: str = "text") -> list[str]:
    """Texts from a file or, for `-`, from standard input.

    A line that is a JSON object is read as JSONL when the name ends in `.jsonl` or, on standard input, when the
    first line starts with a brace; a name that ends in `.csv` or `.tsv` is a table whose first row names the columns;
    otherwise a line is a text. A byte order mark is no part of the first line.

    Args:
        path: the file, or `-`.
        field: JSONL's field, or the table's column.

    Raises:
        InputError: unreadable, not UTF-8, malformed, or without a single text.
    """
    try:
        if path == STDIN:
            # Python's own stream keeps a byte order mark and, without a locale, lets other bytes through as surrogates.
            if isinstance(sys.stdin, io.TextIOWrapper):
                sys.stdin.reconfigure(encoding="utf-8-sig", errors="strict")
            texts = list(_texts(sys.stdin, path, field, None))
        elif Path(path).suffix in TABLE_DELIMITERS:
            with Path(path).open(encoding="utf-8-sig", newline="") as stream:
                texts = list(
                    _column(csv.reader(stream, delimiter=TABLE_DELIMITERS[Path(path).suffix], strict=True), path, field)
                )
        else:
            with Path(path).open(encoding="utf-8-sig") as stream:
                texts = list(_texts(stream, path, field, path.endswith((".jsonl", ".ndjson"))))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason}): convert it first") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except csv.Error as error:
        raise InputError(f"{path} is not a table ({error}): check its quotes") from error
    if not texts:
        raise InputError(f"{path} holds no text: nothing to do")
    return texts


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


def write_jsonl(path: str, texts: list[str], vectors: NDArray[Any]) -> None:
    """One `{"text": ..., "embedding": [...]}` a line, to a file or, for `-`, to standard output.

    Raises:
        InputError: the destination cannot be written.
    """
    if path == STDIN:
        _write_lines(sys.stdout, texts, vectors)
        sys.stdout.flush()
        return
    with moved_into_place(Path(path)) as partial, partial.open("w", encoding="utf-8") as stream:
        _write_lines(stream, texts, vectors)


def write_npy(path: Path, vectors: NDArray[Any]) -> None:
    """The matrix `(n, dim)`, to a file.

    Raises:
        InputError: the destination cannot be written.
    """
    with moved_into_place(path) as partial, partial.open("wb") as stream:
        np.save(stream, vectors)


def _write_lines(stream: IO[str], texts: list[str], vectors: NDArray[Any]) -> None:
    for text, vector in zip(texts, vectors, strict=True):
        stream.write(json.dumps({"text": text, "embedding": vector.tolist()}, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def moved_into_place(path: Path) -> Iterator[Path]:
    """Where to write what becomes `path` once it is whole; after an error nothing is left of it.

    Raises:
        InputError: the destination cannot be written.
    """
    # Not the process's number, which another container has too.
    partial = path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        if error.filename not in (None, str(partial), str(path)):
            raise
        reason = "no space left" if is_full(error) else error.strerror or error
        raise InputError(f"{path} cannot be written ({reason}): choose another destination") from error
    finally:
        # Where it could not be written it cannot be removed either, and the reason why not is on its way.
        with contextlib.suppress(OSError):
            partial.unlink()


def _column(rows: Iterator[list[str]], path: str, field: str) -> Iterator[str]:
    names = next(rows, [])
    if field not in names:
        known = ", ".join(map(repr, names)) or "no columns"
        raise InputError(f"{path} has no column {field!r} in its first row, which has {known}: name one of them")
    place = names.index(field)
    for number, row in enumerate(rows, start=2):
        if not row:
            continue
        if len(row) <= place:
            raise InputError(f"row {number} of {path} has {len(row)} columns, none of them {field!r}")
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
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"line {number} of {path} is not a JSON object with the field {field!r}") from error
        if not isinstance(text, str):
            raise InputError(f"line {number} of {path}: {field!r} is {type(text).__name__}, not text")
        yield text
