"""numpy's own files: `NAME.npy`, or `NAME.npz` of vectors that are sparse or several of a text, `NAME.ids.npy`."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa

from stcompile.bulk.forms import DIM
from stcompile.bulk.store import Store
from stcompile.bulk.writers.files import put
from stcompile.errors import InputError
from stcompile.runtime.sparse_vectors import SparseVectors

# Letters of an id: numpy's texts are as wide as the widest, four bytes a letter.
_LONGEST_ID = 256


class NpyWriter:
    """Two arrays a shard, `(n, dim)` and `(n,)`, which `numpy.load` reads without pickles. Sparse vectors are as
    `scipy.sparse.load_npz` reads them; several of a text lie behind those of the text before, with where each begins.

    Args:
        into: the column of the vectors.
    """

    folder = ""

    def __init__(self, into: str) -> None:
        self._into = into

    def check(self, store: Store, schema: pa.Schema) -> None:
        """As `Writer.check`: ids are whole numbers or texts."""
        for field in schema:
            if not (pa.types.is_integer(field.type) or _is_text(field.type)):
                raise InputError(
                    f"the ids in {field.name!r} are {field.type}, and numpy's files hold whole numbers and texts: "
                    "write Parquet"
                )

    def problems(self, table: pa.Table) -> dict[int, str]:
        """As `Writer.problems`: ids that are null, and texts that numpy would cut or make all others as wide as."""
        (name,) = (column for column in table.column_names if column != self._into)
        ids = table[name]
        if not ids.null_count and not _is_text(ids.type):
            return {}
        found = {}
        for place, value in enumerate(ids.to_pylist()):
            if value is None:
                found[place] = f"{name}: null, which numpy's files cannot hold"
            elif isinstance(value, str) and (len(value) > _LONGEST_ID or "\0" in value):
                found[place] = f"{name}: numpy's files hold texts of up to {_LONGEST_ID} letters without NUL"
        return found

    def write(self, store: Store, name: str, table: pa.Table) -> dict[str, Any]:
        """As `Writer.write`."""
        vectors = table[self._into].combine_chunks()
        (other,) = (column for column in table.column_names if column != self._into)
        ids = table[other]
        # A number keeps its width; a text becomes numpy's own.
        found = np.array(ids.to_pylist(), np.str_) if _is_text(ids.type) else ids.to_numpy()
        names = put(store, f"{name}.ids.npy", _npy(found))
        if pa.types.is_struct(vectors.type):
            return {
                "files": [
                    put(store, f"{name}.npz", _npz(vectors, int(table.field(self._into).metadata[DIM.encode()]))),
                    names,
                ]
            }
        if pa.types.is_list(vectors.type):
            return {"files": [put(store, f"{name}.npz", _ragged(vectors)), names]}
        matrix = vectors.values.to_numpy(zero_copy_only=False).reshape(len(table), vectors.type.list_size)
        return {"files": [put(store, f"{name}.npy", _npy(matrix)), names]}

    def finish(self, store: Store, entries: list[dict[str, Any]]) -> None:
        """Nothing: the files are read one by one."""


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _npz(vectors: pa.StructArray, dim: int) -> bytes:
    indices, values = (vectors.field(name) for name in ("indices", "values"))
    rows = SparseVectors(
        indices.flatten().to_numpy(),
        values.flatten().to_numpy(),
        np.concatenate([[0], np.cumsum(indices.value_lengths().to_numpy())]).astype(np.int64),
        dim,
    )
    place = io.BytesIO()
    rows.save_npz(place)
    return place.getvalue()


def _ragged(vectors: pa.ListArray) -> bytes:
    """`vectors` `(all, dim)`, of one text behind those of the one before it, and `offsets` `(texts + 1,)`."""
    flat = vectors.flatten()
    rows = flat.flatten().to_numpy(zero_copy_only=False).reshape(len(flat), vectors.type.value_type.list_size)
    offsets = np.concatenate([[0], np.cumsum(vectors.value_lengths().to_numpy())]).astype(np.int64)
    place = io.BytesIO()
    np.savez(place, vectors=rows, offsets=offsets)
    return place.getvalue()


def _npy(array: Any) -> bytes:
    place = io.BytesIO()
    np.save(place, array, allow_pickle=False)
    return place.getvalue()
