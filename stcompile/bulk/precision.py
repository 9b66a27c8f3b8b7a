"""Vectors in the precision that was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcompile.runtime.postprocess import quantize

# Those whose ranges must be known before the first row.
RANGED = ("int8", "uint8")

# What `encode` itself makes of each vector by itself.
_BY_ENCODE = ("binary", "ubinary")


def encode_precision(precision: str) -> str:
    """What to ask `encode` for."""
    return precision if precision in _BY_ENCODE else "float32"


def in_precision(vectors: NDArray[Any], precision: str, ranges: NDArray[np.float32] | None) -> NDArray[Any]:
    """What `encode` gave, in the precision of the job.

    Args:
        vectors: `(n, dim)`.
        precision: of the job.
        ranges: float32 `(2, dim)`, lowest and highest value of each dimension; of int8 and uint8, None for others.
    """
    if precision == "float16":
        # What becomes infinite, `too_large` finds.
        with np.errstate(over="ignore"):
            return vectors.astype(np.float16)
    return vectors if ranges is None else quantize(vectors, precision, ranges)


def too_large(vectors: NDArray[Any], found: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows have numbers that float16 cannot hold, `(n,)`.

    Args:
        vectors: as they were, `(n, dim)`.
        found: the same in the precision of the job.
    """
    if found.dtype != np.float16:
        return np.zeros(len(vectors), np.bool_)
    lost: NDArray[np.bool_] = (np.isinf(found) & np.isfinite(vectors)).any(axis=1)
    return lost


TOO_LARGE = "numbers above 65504, which float16 cannot hold: ask for float32, or normalize"
