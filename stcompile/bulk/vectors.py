"""Vectors as a column of a table, in the precision that was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
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
        ranges: float32 `(2, dim)`, lowest and highest value of each dimension; for int8 and uint8.
    """
    if precision == "float16":
        return vectors.astype(np.float16)
    return quantize(vectors, precision, ranges) if precision in RANGED else vectors


def as_column(vectors: NDArray[Any]) -> pa.Array:
    """`(n, dim)` as a column of fixed-size lists: the one form that every reader of Parquet takes for a vector."""
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
