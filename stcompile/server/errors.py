"""What a client is told of a request that cannot be answered: a status, one sentence, and a word for programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from stcompile.errors import InputError, StcompileError, UnavailableError

# Seconds after which who was told to come again may do so.
_COME_AGAIN = "1"


@dataclass(eq=False)
class RequestError(Exception):
    """A request that is not answered as asked.

    Attributes:
        status: of HTTP.
        sentence: what is wrong, with the remedy.
        kind: the same in a word, for programs.
        headers: of the answer.
    """

    status: int
    sentence: str
    kind: str
    headers: dict[str, str] = field(default_factory=dict)


def overloaded(waiting: int, limit: int) -> RequestError:
    """There is no room: come again."""
    return RequestError(
        429,
        f"{waiting} texts wait already and {limit} is the limit: come again in {_COME_AGAIN} s, or start the server "
        "with a larger --max-queue",
        "overloaded",
        {"retry-after": _COME_AGAIN},
    )


def too_large(sentence: str) -> RequestError:
    """More than a request may have."""
    return RequestError(413, sentence, "too_large")


def invalid(sentence: str) -> RequestError:
    """A request that is read and cannot be taken."""
    return RequestError(422, sentence, "validation")


def of_exception(error: BaseException) -> RequestError:
    """What somebody raised while a request was answered."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, ValidationError):
        return invalid(_first_reason(error))
    if isinstance(error, InputError):
        return invalid(str(error))
    if isinstance(error, (MemoryError, UnavailableError)):
        return RequestError(
            503,
            f"the server cannot take this now ({error or 'no memory'}): come again",
            "unavailable",
            {"retry-after": _COME_AGAIN},
        )
    if isinstance(error, StcompileError):
        return RequestError(500, str(error), "backend")
    return RequestError(500, f"unexpected {type(error).__name__}: this is a bug of the server", "internal")


def _first_reason(error: ValidationError) -> str:
    """The first of what is wrong with a request, and how many others are: not what was sent, which may be a text."""
    reasons = error.errors(include_url=False, include_input=False, include_context=False)
    first: Any = reasons[0]
    where = ".".join(str(part) for part in first["loc"] if not isinstance(part, str) or part.isidentifier())
    said = str(first["msg"]).removeprefix("Value error, ")
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"{where}: {said}{more}" if where else f"{said}{more}"
