"""What the verbs write on: tables and JSON to standard output, what goes on and what went wrong to standard error."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape

from stcompile.errors import StcompileError

DONE, PARITY_FAILED, BAD_INPUT, BUG, INTERRUPTED = 0, 1, 2, 70, 130

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


out = _Output()
err = _Messages(stderr=True)


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


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
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        drop_standard_output()
