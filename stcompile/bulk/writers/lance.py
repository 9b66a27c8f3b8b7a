"""Lance: one dataset, whose pieces are written shard by shard and made one in the end."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from stcompile.bulk.store import Store
from stcompile.extras import require

DATASET = "data.lance"


class LanceWriter:
    """Pieces belong to nothing until the job is done: what a killed run wrote is no row of the dataset.

    Args:
        into: the column of the vectors.

    Raises:
        MissingExtraError: Lance is not installed.
    """

    def __init__(self, into: str) -> None:
        del into
        self._lance: Any = require("lance", "Writing Lance")

    def write(self, store: Store, name: str, table: pa.Table) -> dict[str, Any]:
        """As `Writer.write`."""
        fragments = self._lance.fragment.write_fragments(table, f"{store.root}/{DATASET}", schema=table.schema)
        schema = table.schema.serialize().to_pybytes().hex()
        return {
            "files": [],
            "schema": schema,
            "fragments": [json.loads(json.dumps(item.to_json())) for item in fragments],
        }

    def finish(self, store: Store, entries: list[dict[str, Any]]) -> None:
        """One version of all pieces, which replaces the one of a run that was killed here."""
        fragments = [item for entry in entries for item in entry["fragments"]]
        if not fragments:
            return
        schema = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(entries[0]["schema"])))
        known = [self._lance.fragment.FragmentMetadata.from_json(json.dumps(item)) for item in fragments]
        operation = self._lance.LanceOperation.Overwrite(schema, known)
        self._lance.LanceDataset.commit(f"{store.root}/{DATASET}", operation)

    def names(self, name: str) -> tuple[str, ...]:
        """The dataset whole: its pieces have names of Lance's own."""
        return (DATASET,)
