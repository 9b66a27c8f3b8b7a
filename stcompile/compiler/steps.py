"""How a long piece of work tells how far it has come."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

# Told of how far a step has come.
Tell = Callable[[str], None]

# Announces a step that may take a while; the command line shows a spinner while it runs.
Step = Callable[[str], AbstractContextManager[Tell]]


def silent(_: str) -> None:
    """Tells nobody."""


def silent_step(_: str) -> AbstractContextManager[Tell]:
    """Announces nothing."""
    return nullcontext(silent)
