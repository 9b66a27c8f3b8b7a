"""Reading texts and writing vectors: plain lines, JSONL, `.npy`."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from stcompile.errors import InputError

STDIN = "-"


def read_texts(path: str, field: str = "text") -> list[str]:
    """Texts from a file or, for `-`, from standard input.

    A line that is a JSON object is read as JSONL when the name ends in `.jsonl` or, on standard input, when the
    first line starts with a brace; otherwise a line is a text. A byte order mark is no part of the first line.

    Args:
        path: the file, or `-`.
        field: JSONL's field.

    Raises:
        InputError: unreadable, not UTF-8, malformed JSONL, or without a single text.
    """
    try:
        if path == STDIN:
            # Python's own stream keeps a byte order mark and, without a locale, lets other bytes through as surrogates.
            if isinstance(sys.stdin, io.TextIOWrapper):
                sys.stdin.reconfigure(encoding="utf-8-sig", errors="strict")
            texts = list(_texts(sys.stdin, path, field, None))
        else:
            with Path(path).open(encoding="utf-8-sig") as stream:
                texts = list(_texts(stream, path, field, path.endswith((".jsonl", ".ndjson"))))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason}): convert it first") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not texts:
        raise InputError(f"{path} holds no text: nothing to do")
    return texts


def write_jsonl(path: str, texts: list[str], vectors: NDArray[Any]) -> None:
    """One `{"text": ..., "embedding": [...]}` a line, to a file or, for `-`, to standard output.

    Raises:
        InputError: the destination cannot be written.
    """
    if path == STDIN:
        _write_lines(sys.stdout, texts, vectors)
        sys.stdout.flush()
        return
    with _moved_into_place(Path(path)) as partial, partial.open("w", encoding="utf-8") as stream:
        _write_lines(stream, texts, vectors)


def write_npy(path: Path, vectors: NDArray[Any]) -> None:
    """The matrix `(n, dim)`, to a file.

    Raises:
        InputError: the destination cannot be written.
    """
    with _moved_into_place(path) as partial, partial.open("wb") as stream:
        np.save(stream, vectors)


def _write_lines(stream: IO[str], texts: list[str], vectors: NDArray[Any]) -> None:
    for text, vector in zip(texts, vectors, strict=True):
        stream.write(json.dumps({"text": text, "embedding": vector.tolist()}, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def _moved_into_place(path: Path) -> Iterator[Path]:
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): choose another destination") from error
    finally:
        # Where it could not be written it cannot be removed either, and the reason why not is on its way.
        with contextlib.suppress(OSError):
            partial.unlink()


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
