"""What a server is told, checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stcompile.errors import InputError
from stcompile.runtime.arguments import local_path
from stcompile.runtime.inputs import at_least_one

# The environment's name of a key, for who has no file to put it in.
KEY_VARIABLE = "STCOMPILE_API_KEY"

_MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Settings:
    """Limits, keys and origins.

    Attributes:
        max_batch_tokens: about how many tokens one worker computes at once, as `max_tokens` of `AsyncEncoder`.
        max_queue: texts of one model that wait or run; what comes beyond is told to come again (429).
        max_texts: texts, or documents, of one request.
        max_body: bytes of a request.
        body_seconds: how long a client may take to send a request.
        truncates: whether texts that are too long are cut where a request does not say; otherwise they are refused.
        api_keys: one of them must come with every request but `/health`; none lets everybody in.
        cors: origins whose pages may call, `*` for all.
        logs: whether every request is a line.

    Raises:
        InputError: a number is out of range.
    """

    max_batch_tokens: int = 256
    max_queue: int = 4096
    max_texts: int = 2048
    max_body: int = 16 * _MEGABYTE
    body_seconds: float = 30.0
    truncates: bool = True
    api_keys: tuple[str, ...] = ()
    cors: tuple[str, ...] = ()
    logs: bool = True

    def __post_init__(self) -> None:
        for name in ("max_batch_tokens", "max_queue", "max_texts", "max_body"):
            at_least_one(name, getattr(self, name))
        if not 0 < self.body_seconds <= 3600:
            raise InputError(f"body_seconds must be above 0 and at most 3600, got {self.body_seconds!r}")


def api_keys(file: str | None, environment: Mapping[str, str]) -> tuple[str, ...]:
    """The keys of a file, one a line, and that of the environment.

    Raises:
        InputError: the file cannot be read, or has no key; the environment's is empty, or a key has other characters
            than a header's.
    """
    keys = [environment[KEY_VARIABLE].strip()] if KEY_VARIABLE in environment else []
    if keys == [""]:
        # Whoever sets it wants a key: an empty one must not let everybody in.
        raise InputError(f"{KEY_VARIABLE} is empty: put a key into it, or unset it")
    if file is not None:
        keys += _keys_of(local_path(file))
    for key in keys:
        if not key.isascii() or not key.isprintable() or " " in key:
            raise InputError("an API key has a character that no header can carry: use ASCII without spaces")
    return tuple(dict.fromkeys(keys))


def _keys_of(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the API keys cannot be read: {error}") from error
    found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not found:
        raise InputError(f"{path} has no API key: put one a line")
    return found
