"""Parquet: a file a shard, vectors as fixed-size lists, sparse ones as structs of two lists."""

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

    folder = ""

    def __init__(self, into: str) -> None:
        self._into = into
        self._others: list[str] | None = None

    def check(self, store: Store, schema: pa.Schema) -> None:
        """As `Writer.check`: it writes anything."""

    def problems(self, table: pa.Table) -> dict[int, str]:
        """As `Writer.problems`."""
        return {}

    def write(self, store: Store, name: str, table: pa.Table) -> dict[str, Any]:
        """As `Writer.write`."""
        if self._others is None:
            schema = table.schema
            self._others = _leaves(schema.remove(schema.get_field_index(self._into)))
        place = pa.BufferOutputStream()
        pq.write_table(
            table,
            place,
            use_dictionary=self._others,
            compression={
                **dict.fromkeys(self._others, "zstd"),
                **{name: "none" for name in _leaves(table.schema) if name not in self._others},
            },
            write_statistics=self._others,
        )
        return {"files": [put(store, f"{name}.parquet", place.getvalue())]}

    def finish(self, store: Store, entries: list[dict[str, Any]]) -> None:
        """Nothing: a folder of Parquet files is one table to every reader."""


def _leaves(schema: pa.Schema) -> list[str]:
    """Parquet's own names of the columns that hold values."""
    place = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), place)
    found = pq.ParquetFile(pa.BufferReader(place.getvalue())).schema
    return [found.column(index).path for index in range(len(found.names))]
