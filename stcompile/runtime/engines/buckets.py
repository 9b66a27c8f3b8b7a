"""Runs of a few shapes for texts of any number: what a captured CUDA graph needs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Above, kernels take longer than their launches, and a graph of them saves nothing.
MOST_POSITIONS = 4096


def bucketed(feeds: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]] | None:
    """The same texts, the last one repeated up to the next power of two; None where a graph would not pay.

    Args:
        feeds: arrays `(batch, sequence)`, and scalars, which stay. Texts behind each other have too many shapes.
    """
    mask = feeds.get("attention_mask")
    if mask is None or not mask.size:
        return None
    count = 1 << (len(mask) - 1).bit_length()
    if count * mask.shape[1] > MOST_POSITIONS:
        return None
    return {
        name: array if array.ndim == 0 else np.concatenate([array, array[-1:].repeat(count - len(array), axis=0)])
        for name, array in feeds.items()
    }
