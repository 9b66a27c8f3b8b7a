"""What is done of a job: an entry a shard, written after all that it speaks of is in place.

`_stcompile/plan.json` is the job, `_stcompile/journal/SHARD.json` an entry, `_rejects.jsonl` the rows that have no
vector and `_summary.json`, the last file of all, the counts. Readers of folders leave out what begins with `_`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcompile.bulk.plan import Plan, Shard
from stcompile.bulk.store import Store

HOME = "_stcompile"
PLAN = f"{HOME}/plan.json"
LOCK = f"{HOME}/lock"
RANGES = f"{HOME}/ranges.npy"
JOURNAL = f"{HOME}/journal"
SUMMARY = "_summary.json"
REJECTS = "_rejects.jsonl"


class Journal:
    """The notes of one job in its output."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def plan(self) -> Plan | None:
        """The job that was begun here, or None.

        Raises:
            InputError: it cannot be read.
        """
        found = self.store.get_json(PLAN)
        return None if found is None else Plan.from_json(found)

    def begin(self, plan: Plan) -> None:
        """Notes the job, before anything of it is done."""
        self.store.put_json(PLAN, plan.to_json())

    def done(self) -> set[str]:
        """Names of the shards that are done."""
        return {name.removesuffix(".json") for name in self.store.names(JOURNAL)}

    def entry(self, shard: Shard) -> dict[str, Any] | None:
        """What is noted of a shard; None where it is not done."""
        found: dict[str, Any] | None = self.store.get_json(f"{JOURNAL}/{shard.name}.json")
        return found

    def note(self, shard: Shard, entry: dict[str, Any]) -> None:
        """Notes that a shard is done."""
        self.store.put_json(f"{JOURNAL}/{shard.name}.json", entry)

    def ranges(self) -> NDArray[np.float32] | None:
        """Lowest and highest value of each dimension `(2, dim)`, where the precision needs them and they are known."""
        found = self.store.get(RANGES)
        return None if found is None else np.load(io.BytesIO(found), allow_pickle=False)

    def note_ranges(self, ranges: NDArray[np.float32]) -> None:
        """Keeps the ranges for whatever runs go on with the job."""
        place = io.BytesIO()
        np.save(place, ranges, allow_pickle=False)
        self.store.put(RANGES, place.getvalue())

    def summary(self) -> dict[str, Any] | None:
        """The counts of a job that is done; None of one that is not."""
        found: dict[str, Any] | None = self.store.get_json(SUMMARY)
        return found

    def note_rejects(self, plan: Plan, entries: list[dict[str, Any]]) -> None:
        """Writes the rows without a vector, in their order: file, row of the file from 0, reason."""
        lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in _rejects(plan, entries))
        if lines:
            self.store.put(REJECTS, lines.encode())

    def note_summary(self, summary: dict[str, Any]) -> None:
        """Says that the job is done; nothing is written after it."""
        self.store.put_json(SUMMARY, summary)


def _rejects(plan: Plan, entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for item in plan.files:
        if item.error is not None:
            yield {"file": item.file.address, "row": None, "reason": item.error}
    for shard, entry in zip(plan.shards(), entries, strict=True):
        address = plan.files[shard.file].file.address
        for row, reason in entry["rejects"]:
            yield {"file": address, "row": row, "reason": reason}
