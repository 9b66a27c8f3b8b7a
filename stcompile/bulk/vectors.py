"""Vectors as a column of a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def as_column(vectors: NDArray[Any]) -> pa.Array:
    """`(n, dim)` as a column of fixed-size lists: the one form that every reader of Parquet takes for a vector."""
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
