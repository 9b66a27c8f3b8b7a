"""Which runs are large, and what is done after them."""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Up to here a run's memory is kept for the next one; to take more of it anew is little beside what such a run computes.
_KEPT_POSITIONS = 1024


def is_large(feeds: dict[str, NDArray[np.int64]]) -> bool:
    """Whether the memory of a run goes back to the system after it.

    Args:
        feeds: arrays `(batch, sequence)`, and scalars. Texts that lie behind each other take little.
    """
    mask = feeds.get("attention_mask")
    return mask is not None and mask.size > _KEPT_POSITIONS


def trim() -> None:
    """Has the C library give back what the engine let go of, where it keeps that for later, as glibc does."""
    give_back = _malloc_trim()
    if give_back is not None:
        give_back(ctypes.c_size_t(0))


@functools.cache
def _malloc_trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
