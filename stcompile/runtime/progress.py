"""A progress bar, where one is wanted and can be drawn."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

from stcompile.errors import MissingExtraError

logger = logging.getLogger("stcompile")

_NO_BAR = nullcontext(SimpleNamespace(update=lambda _: None))


def progress(total: int | None, asked: bool | None) -> Any:
    """A bar of `total` texts on stderr, as a context with `update`.

    Args:
        total: texts; None where nobody knows.
        asked: whether to draw it; None draws it when the `stcompile` logger is at INFO or below.

    Raises:
        MissingExtraError: it was asked for, and tqdm is not installed.
    """
    if not (logger.getEffectiveLevel() <= logging.INFO if asked is None else asked):
        return _NO_BAR
    try:
        from tqdm import tqdm  # noqa: PLC0415 - only when a bar is to be drawn
    except ImportError as error:
        if asked is None:
            return _NO_BAR
        raise MissingExtraError("A progress bar needs tqdm, which is not installed: pip install tqdm") from error
    return tqdm(total=total, desc="Texts", unit="text")
