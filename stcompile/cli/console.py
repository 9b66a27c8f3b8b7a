"""What the verbs write on: tables and JSON to standard output, what goes on and what went wrong to standard error."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.markup import escape

from stcompile.errors import StcompileError

DONE, PARITY_FAILED, BAD_INPUT, BUG, INTERRUPTED = 0, 1, 2, 70, 130

# How standard output writes what programs read.
_DATA = ("utf-8", "backslashreplace")

logger = logging.getLogger("stcompile")


class StoppedError(StcompileError):
    """Who watches stopped the work; what is done is kept."""


class _Output(Console):
    def on_broken_pipe(self) -> None:
        """What rich does is to end the process with 1."""
        raise BrokenPipeError


class _Messages(Console):
    def on_broken_pipe(self) -> None:
        """Nobody listens any more, which is no reason to stop."""
        self.quiet = True

    def print(self, *objects: Any, **options: Any) -> None:
        """What cannot be said (a log on a full disk) is no reason to stop, and does not change the exit code."""
        with suppress(OSError):
            super().print(*objects, **options)


out = _Output()
err = _Messages(stderr=True)


def write_out(content: str) -> None:
    """What programs read, to standard output: in UTF-8 whatever the locale is, as in a file.

    Of a name that is no UTF-8 the bytes become `\\udc..`, which is how JSON spells them.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and (sys.stdout.encoding, sys.stdout.errors) != _DATA:
        sys.stdout.reconfigure(encoding=_DATA[0], errors=_DATA[1])
    sys.stdout.write(content)


def print_json(value: Any) -> None:
    """As `write_out`."""
    write_out(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def open_standard_streams() -> None:
    """Gives the streams that whoever started the process has closed something in their place.

    Otherwise the next file that is opened gets their number, and what a library prints goes into it. Messages are lost,
    standard input is empty, and what is to go to standard output is an error of writing it. What a table holds and the
    locale's encoding does not, is spelled out.
    """
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY), encoding="utf-8")
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def spinner(text: str) -> Iterator[Callable[[str], None]]:
    """A step that takes a while; what it yields is told how far the step has come."""
    if not err.is_terminal:
        err.print(f"{text} ...", highlight=False)
        yield lambda _: None
        return
    with err.status(text) as status:
        yield lambda detail: status.update(f"{text}: {escape(detail)}")
    err.print(f"{text}: done", highlight=False)


def drop_standard_output() -> None:
    # What is still buffered would fail again when the interpreter exits.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """A reader that has seen enough (`| head`) is no error, and there is nobody left to tell."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        drop_standard_output()
