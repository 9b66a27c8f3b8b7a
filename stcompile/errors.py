"""What stcompile raises: one clear sentence that names the remedy, never a bare traceback.

The command line prints the sentence and picks the exit code: `ParityError` and its `BudgetError` are 1, every other
`StcompileError` is 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# Characters of a sentence. What it quotes may be a whole vocabulary that lies where a name belongs: its end, which is
# the remedy, stays.
_LONGEST, _END = 2000, 500


def readable(sentence: str) -> str:
    """A sentence that somebody can still read: of a longer one the beginning and the end."""
    if len(sentence) <= _LONGEST:
        return sentence
    return f"{sentence[: _LONGEST - _END]} … {sentence[-_END:]}"


class StcompileError(Exception):
    """Base of every error a user can meet; its text is one sentence with the remedy."""

    def __init__(self, sentence: str = "", *more: object) -> None:
        super().__init__(readable(str(sentence)), *more)


class InputError(StcompileError, ValueError):
    """A call was given something it cannot take: a non-string text, an unknown prompt, a bad option."""


class ModelFolderError(StcompileError):
    """The model folder is missing, half-written or malformed."""


class UnsupportedError(StcompileError):
    """The folder is well-formed, but stcompile cannot compile it.

    Attributes:
        reasons: every reason found, each with its remedy; never only the first.
    """

    def __init__(self, subject: str, *reasons: str) -> None:
        self.reasons = reasons = tuple(readable(reason) for reason in reasons)
        text = reasons[0] if len(reasons) == 1 else "".join(f"\n  - {reason}" for reason in reasons)
        # As long as there are reasons.
        Exception.__init__(self, f"{subject} cannot be compiled: {text}")


@contextmanager
def about(model: str) -> Iterator[None]:
    """Says of what cannot be compiled that it is `model`, whatever part of it noticed."""
    try:
        yield
    except UnsupportedError as error:
        raise UnsupportedError(model, *error.reasons) from error


def one_line(error: BaseException, most: int | None = 300) -> str:
    """What an error that is not ours says, on one line of so many characters at most."""
    return " ".join(str(error).split())[:most]


class TargetError(StcompileError, ValueError):
    """The target's name is unknown, or this machine cannot run it."""


class ArtifactError(StcompileError):
    """An artifact folder is missing, corrupt, tampered with, of a newer schema, or cannot be written."""


class ProviderError(StcompileError):
    """The execution provider that was asked for is not available; nothing falls back silently."""


class UnavailableError(StcompileError):
    """It cannot be done now, and may be later: there is no memory for it, or what would do it is closed."""


class MissingExtraError(StcompileError, ImportError):
    """A dependency of an optional feature is not installed; the text is the pip line to run."""


class ParityError(StcompileError):
    """The compiled graph differs from sentence-transformers by more than is allowed; nothing was published."""


class BudgetError(ParityError):
    """The accuracy that was asked for cannot be reached; nothing was published."""
