"""Which runs are large."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Up to here a run's memory is kept for the next one. To take more of it anew costs such a run 1-2% of its time.
_KEPT_POSITIONS = 1024


def is_large(feeds: dict[str, NDArray[np.int64]]) -> bool:
    """Whether the memory of a run goes back to the system after it.

    Args:
        feeds: arrays `(batch, sequence)`, and scalars. Texts that lie behind each other take little.
    """
    mask = feeds.get("attention_mask")
    return mask is not None and mask.size > _KEPT_POSITIONS
