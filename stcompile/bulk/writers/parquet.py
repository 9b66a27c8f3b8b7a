"""Parquet: a file a shard, vectors as fixed-size lists."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stcompile.bulk.store import Store
from stcompile.bulk.writers.files import put


class ParquetWriter:
    """Vectors are stored as they are: no dictionary and no compression makes random numbers smaller.

    Args:
        into: the column of the vectors.
    """

    def __init__(self, into: str) -> None:
        self._into = into

    def write(self, store: Store, name: str, table: pa.Table) -> dict[str, Any]:
        """As `Writer.write`."""
        others = [column for column in table.column_names if column != self._into]
        leaf = f"{self._into}.list.element"
        place = pa.BufferOutputStream()
        pq.write_table(
            table,
            place,
            use_dictionary=others,
            compression={**dict.fromkeys(_leaves(table.schema, others), "zstd"), leaf: "none"},
            write_statistics=others,
            store_schema=True,
        )
        return {"files": [put(store, f"{name}.parquet", place.getvalue())]}

    def finish(self, store: Store, entries: list[dict[str, Any]]) -> None:
        """Nothing: a folder of Parquet files is one table to every reader."""

    def names(self, name: str) -> tuple[str, ...]:
        """As `Writer.names`."""
        return (f"{name}.parquet",)


def _leaves(schema: pa.Schema, names: list[str]) -> list[str]:
    """Parquet's own names of the columns that hold values."""
    parquet = pq.ParquetFile(pa.BufferReader(_empty(schema))).schema
    found = [parquet.column(index).path for index in range(len(parquet.names))]
    return [path for path in found if path.partition(".")[0] in names]


def _empty(schema: pa.Schema) -> pa.Buffer:
    place = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), place)
    return place.getvalue()
