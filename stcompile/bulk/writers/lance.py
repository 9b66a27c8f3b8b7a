"""Lance: one dataset, whose pieces are written shard by shard and made one in the end."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from stcompile.bulk.store import Store
from stcompile.errors import InputError, one_line
from stcompile.extras import require

DATASET = "data.lance"


class LanceWriter:
    """Pieces belong to nothing until the job is done: what a killed run wrote is no row of the dataset.

    Args:
        into: the column of the vectors.

    Raises:
        MissingExtraError: Lance is not installed.
    """

    folder = f"{DATASET}/data"

    def __init__(self, into: str) -> None:
        self._lance: Any = require("lance", "Writing Lance")
        if "." in into:
            raise InputError(
                f"Lance takes no column named {into!r}, whose dot means a part of another: choose another --into"
            )

    def check(self, store: Store, schema: pa.Schema) -> None:
        """As `Writer.check`: on a disk, where its pieces can be looked after."""
        if not store.is_local:
            raise InputError(f"Lance is written to a disk, and {store.address} is none: write Parquet there")
        dotted = [name for name in schema.names if "." in name]
        if dotted:
            raise InputError(f"Lance takes no column named {dotted[0]!r}, whose dot means a part of another")

    def problems(self, table: pa.Table) -> dict[int, str]:
        """As `Writer.problems`."""
        return {}

    def write(self, store: Store, name: str, table: pa.Table) -> dict[str, Any]:
        """As `Writer.write`."""
        home = Path(store.root) / DATASET
        try:
            found = self._lance.fragment.write_fragments(table, str(home), schema=table.schema)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"Lance cannot write {home}: {one_line(error)}") from error
        fragments = [item.to_json() for item in found]
        files = []
        for piece in (file for fragment in fragments for file in fragment["files"]):
            with (home / "data" / piece["path"]).open("rb") as stream:
                os.fsync(stream.fileno())
            files.append({"name": piece["path"], "bytes": (home / "data" / piece["path"]).stat().st_size})
        return {"files": files, "fragments": fragments, "schema": table.schema.serialize().to_pybytes().hex()}

    def finish(self, store: Store, entries: list[dict[str, Any]]) -> None:
        """One version of all pieces, which replaces the one of a run that was killed here."""
        written = [entry for entry in entries if entry["written"]]
        if not written:
            return
        schema = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(written[0]["schema"])))
        read = self._lance.fragment.FragmentMetadata.from_json
        known = [read(json.dumps(item)) for entry in written for item in entry["fragments"]]
        operation = self._lance.LanceOperation.Overwrite(schema, known)
        self._lance.LanceDataset.commit(str(Path(store.root) / DATASET), operation)
