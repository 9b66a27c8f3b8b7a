"""Token embeddings of a batch, text by text, without what was padded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def token_rows(
    hidden: NDArray[np.float32], mask: NDArray[np.int64], *, pads_to_multiple: bool
) -> list[NDArray[np.float32]]:
    """Each text's rows, a copy.

    Args:
        hidden: float32 `(batch, sequence, hidden)`.
        mask: int64 `(batch, sequence)`, zero where padded.
        pads_to_multiple: whether the batch is wider than its longest text for the engine's sake.

    Returns:
        float32 `(tokens, hidden)` of each text. Trailing padding only is removed: sentence-transformers leaves the
        padding of left-padded rows in place.
    """
    first = _surplus(mask) if pads_to_multiple else 0
    ends = np.maximum(mask.shape[1] - np.argmax(mask[:, ::-1], axis=1), 1)
    ends[~mask.any(axis=1)] = 1
    return [rows[first:end].copy() for rows, end in zip(hidden, ends, strict=True)]


def _surplus(mask: NDArray[np.int64]) -> int:
    """Leading positions that no row of the batch needs: what was padded on the left for the engine's sake alone."""
    return int(np.argmax(mask.any(axis=0))) if mask.any() else 0
