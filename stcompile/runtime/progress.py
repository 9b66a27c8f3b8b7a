"""A progress bar, where one is wanted and can be drawn."""

from __future__ import annotations

import logging
from typing import Any

from stcompile.errors import MissingExtraError

logger = logging.getLogger("stcompile")


class _NoBar:
    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def update(self, _: int) -> None:
        return


def progress(total: int | None, asked: bool | None) -> Any:
    """A bar of `total` texts on stderr, as a context with `update`.

    Args:
        total: texts; None where nobody knows.
        asked: whether to draw it; None draws it when the `stcompile` logger is at INFO or below.

    Raises:
        MissingExtraError: it was asked for, and tqdm is not installed.
    """
    if not (logger.getEffectiveLevel() <= logging.INFO if asked is None else asked):
        return _NoBar()
    try:
        from tqdm import tqdm  # noqa: PLC0415 - only when a bar is to be drawn
    except ImportError as error:
        if asked is None:
            return _NoBar()
        raise MissingExtraError("A progress bar needs tqdm, which is not installed: pip install tqdm") from error
    return tqdm(total=total, desc="Texts", unit="text")
