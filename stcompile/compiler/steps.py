"""How a long piece of work tells how far it has come."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

# Seconds from which on an estimate is one.
_KNOWN_FROM = 5

# Told of how far a step has come.
Tell = Callable[[str], None]

# Announces a step that may take a while; the command line shows a spinner while it runs.
Step = Callable[[str], AbstractContextManager[Tell]]


class Estimate:
    """Says how long a row of pieces that take about as long as each other will still take.

    Args:
        pieces: how many there are.
    """

    def __init__(self, pieces: int) -> None:
        self._pieces = pieces
        self._begun = time.monotonic()

    def left(self, done: int) -> str:
        """To be put behind what is told once so many are done; empty while nobody can tell, or it is soon over."""
        seconds = time.monotonic() - self._begun
        if not done or seconds < _KNOWN_FROM:
            return ""
        minutes = seconds / done * (self._pieces - done) / 60
        return f" (about {round(minutes)} min left)" if minutes >= 1 else ""


def silent(_: str) -> None:
    """Tells nobody."""


def silent_step(_: str) -> AbstractContextManager[Tell]:
    """Announces nothing."""
    return nullcontext(silent)
