"""numpy's own files: `NAME.npy` with the vectors of a shard, `NAME.ids.npy` with what names them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa

from stcompile.bulk.store import Store
from stcompile.bulk.writers.files import put
from stcompile.errors import InputError


class NpyWriter:
    """Two matrices a shard, `(n, dim)` and `(n,)`, which `numpy.load` reads without pickles.

    Args:
        into: the column of the vectors.
    """

    def __init__(self, into: str) -> None:
        self._into = into

    def write(self, store: Store, name: str, table: pa.Table) -> dict[str, Any]:
        """As `Writer.write`.

        Raises:
            InputError: the ids are neither numbers nor texts, or one is null.
        """
        table = table.combine_chunks()
        column = table[self._into].combine_chunks()
        vectors = column.values.to_numpy(zero_copy_only=False).reshape(len(table), column.type.list_size)
        (other,) = [column for column in table.column_names if column != self._into]
        ids = table[other]
        if ids.null_count:
            raise InputError(f"an id in {other!r} is null, which numpy's files cannot hold: write Parquet")
        found = np.asarray(ids.to_pylist() if len(ids) else np.empty(0, np.int64))
        if found.dtype.kind not in "iufUb":
            raise InputError(f"the ids in {other!r} are {ids.type}, which numpy's files cannot hold: write Parquet")
        return {"files": [put(store, f"{name}.npy", _npy(vectors)), put(store, f"{name}.ids.npy", _npy(found))]}

    def finish(self, store: Store, entries: list[dict[str, Any]]) -> None:
        """Nothing: the files are read one by one."""

    def names(self, name: str) -> tuple[str, ...]:
        """As `Writer.names`."""
        return f"{name}.npy", f"{name}.ids.npy"


def _npy(array: Any) -> bytes:
    place = io.BytesIO()
    np.save(place, array, allow_pickle=False)
    return place.getvalue()
