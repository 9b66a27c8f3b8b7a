"""Checks of arguments that several public functions take."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stcompile.errors import InputError

# More than any machine has; a slip of the finger must not start a million threads.
_MOST_THREADS = 1024


def local_path(path: str | os.PathLike[str]) -> Path:
    """Where a path leads, from the home folder where it begins with `~`.

    Raises:
        InputError: it is no path.
    """
    try:
        found = Path(path)
    except TypeError as error:
        raise InputError(f"expected a path, got {type(path).__name__}") from error
    try:
        return found.expanduser()
    except RuntimeError:  # of a user who is none here: then it is a name like any other
        return found


def check_threads(threads: object) -> None:
    """Whether an engine may have so many threads.

    Raises:
        InputError: no whole number from 1 to 1024, and not None.
    """
    if threads is not None and (not isinstance(threads, int) or not 1 <= threads <= _MOST_THREADS):
        raise InputError(f"threads must be a whole number from 1 to {_MOST_THREADS} or None, got {threads!r}")


def checked_texts(texts: Any, what: str, missing: str) -> list[str]:
    """The texts, which are read more than once: an iterator would be empty the second time.

    Args:
        texts: what was passed.
        what: they are, to begin the error with.
        missing: the error for none of them.

    Raises:
        InputError: not a sequence of strings, or empty.
    """
    if (
        not isinstance(texts, Sequence)
        or isinstance(texts, (str, bytes))
        or not all(isinstance(text, str) for text in texts)
    ):
        raise InputError(f"{what} must be a list of strings")
    if not texts:
        raise InputError(missing)
    return list(texts)


def is_number(value: Any) -> bool:
    """Whether it is a finite number; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def check_share(max_drop: Any) -> None:
    """Whether such a drop may be asked for.

    Raises:
        InputError: not a number between 0 and 1.
    """
    if not is_number(max_drop) or not 0 < max_drop < 1:
        raise InputError(f"max_drop is a share between 0 and 1 (0.003, or 0.3%), got {max_drop}")
