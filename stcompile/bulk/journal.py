"""What is done of a job: an entry a shard, written after all that it speaks of is in place.

`_stcompile/plan.json` is the job, `_stcompile/journal/SHARD.json` an entry, `_rejects.jsonl` the rows that have no
vector and `_summary.json`, the last file of all, the counts. Readers of folders leave out what begins with `_`. An
entry counts for the very plan it was made under: what another job left, or a process that outlived it, is not there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcompile.bulk.plan import Plan, Shard
from stcompile.bulk.store import Store, json_bytes
from stcompile.bulk.writers import FOLDERS
from stcompile.errors import InputError

HOME = "_stcompile"
LOCK = f"{HOME}/lock"
SUMMARY = "_summary.json"
REJECTS = "_rejects.jsonl"

_PLAN = f"{HOME}/plan.json"
_RANGES = f"{HOME}/ranges.json"
_ENTRIES = f"{HOME}/journal"
_REJECTED = f"{HOME}/rejects"

# What the shards of any job are called.
_PART = re.compile(r"part-\d{8}-\d{12}\.")


class Journal:
    """The notes of one job in its output.

    Args:
        store: the output.
        plan: of the job, where it is known.
    """

    def __init__(self, store: Store, plan: Plan | None = None) -> None:
        self.store = store
        self._under = None if plan is None else _digest(plan)

    def plan(self) -> Plan | None:
        """The job that was begun here, or None; what is noted from now on is of this one.

        Raises:
            InputError: it cannot be read.
        """
        found = self.store.get_json(_PLAN)
        if found is None:
            return None
        plan = Plan.from_json(found)
        self._under = _digest(plan)
        return plan

    def begin(self, plan: Plan) -> None:
        """Notes a job, before anything of it is done, in an output that holds no other."""
        self._under = _digest(plan)
        self.store.put_json(_PLAN, plan.to_json())

    def clear(self) -> None:
        """Removes all that any job wrote here, and nothing else; the plan last, by which the rest is known."""
        self.store.remove(SUMMARY)
        self.store.remove(REJECTS)
        for name in self.parts():
            self.store.remove(name)
        for folder in FOLDERS:
            self.store.remove_folder(folder)
        self.store.remove_folder(_REJECTED)
        self.store.remove_folder(_ENTRIES)
        self.store.remove(_RANGES)
        self.store.remove(_PLAN)

    def clear_partial(self) -> None:
        """Removes what killed writers left, where nobody else writes."""
        for folder in ("", HOME, _ENTRIES, _REJECTED):
            self.store.clear_partial(folder)

    def parts(self) -> list[str]:
        """Files of vectors that lie in the output, of whatever job."""
        return sorted(name for name in self.store.names() if _PART.match(name))

    def done(self) -> set[str]:
        """Names of the shards that have an entry, of whatever job."""
        return {name.removesuffix(".json") for name in self.store.names(_ENTRIES)}

    def entry(self, shard: Shard) -> dict[str, Any] | None:
        """What is noted of a shard; None where nothing is, or it is of another job or cut."""
        try:
            found = self.store.get_json(f"{_ENTRIES}/{shard.name}.json")
        except InputError:
            return None
        is_ours = isinstance(found, dict) and found.get("plan") == self._under and found.keys() >= _FIELDS
        return found if is_ours and found["rows"] == shard.rows else None

    def note(self, shard: Shard, entry: dict[str, Any], rejects: list[tuple[int, str]]) -> None:
        """Notes that a shard is done, and which of its rows have no vector.

        Raises:
            InputError: the job is over, and another one was begun here.
        """
        if hashlib.sha256(self.store.get(_PLAN) or b"").hexdigest() != self._under:
            raise InputError(f"{self.store.root} was given to another job meanwhile: nothing more is written there")
        if rejects:
            lines = "".join(json.dumps([row, reason], ensure_ascii=False) + "\n" for row, reason in rejects)
            self.store.put(f"{_REJECTED}/{shard.name}.jsonl", lines.encode())
        self.store.put_json(f"{_ENTRIES}/{shard.name}.json", {"plan": self._under, **entry, "rejected": len(rejects)})

    def forget(self, shard: Shard) -> None:
        """A shard is not done after all."""
        self.store.remove(f"{_ENTRIES}/{shard.name}.json")

    def ranges(self) -> NDArray[np.float32] | None:
        """Lowest and highest value of each dimension `(2, dim)`, where the precision needs them and they are known."""
        try:
            found = self.store.get_json(_RANGES)
        except InputError:
            return None
        if not isinstance(found, dict) or found.get("plan") != self._under:
            return None
        return np.array([found["low"], found["high"]], np.float32)

    def note_ranges(self, ranges: NDArray[np.float32]) -> None:
        """Keeps the ranges for whatever runs go on with the job; JSON holds every float32 as it is."""
        low, high = ranges.tolist()
        self.store.put_json(_RANGES, {"plan": self._under, "low": low, "high": high})

    def summary(self) -> dict[str, Any] | None:
        """The counts of a job that is done; None of one that is not, or whose counts are cut."""
        try:
            found = self.store.get_json(SUMMARY)
        except InputError:
            return None
        return found if isinstance(found, dict) and {"rows", "output"} <= found.keys() else None

    def note_rejects(self, plan: Plan, rejected: set[str]) -> None:
        """Writes the rows without a vector, in their order: file, row of the file from 0, reason.

        Args:
            plan: the job.
            rejected: names of the shards that have such rows.
        """
        if rejected or any(item.error is not None for item in plan.files):
            self.store.put_pieces(REJECTS, self._rejects(plan, rejected))

    def note_summary(self, summary: dict[str, Any]) -> None:
        """Says that the job is done; nothing is written after it."""
        self.store.put_json(SUMMARY, summary)

    def forget_summary(self) -> None:
        """The job is not done after all."""
        self.store.remove(SUMMARY)

    def _rejects(self, plan: Plan, rejected: set[str]) -> Iterator[bytes]:
        for item in plan.files:
            if item.error is not None:
                yield _line(item.file.address, None, item.error)
        for shard in plan.shards():
            if shard.name in rejected:
                content = self.store.get(f"{_REJECTED}/{shard.name}.jsonl") or b""
                for row, reason in map(json.loads, content.splitlines()):
                    yield _line(plan.files[shard.file].file.address, row, reason)


_FIELDS = {"rows", "written", "rejected", "files"}


def _digest(plan: Plan) -> str:
    return hashlib.sha256(json_bytes(plan.to_json())).hexdigest()


def _line(file: str, row: int | None, reason: str) -> bytes:
    return (json.dumps({"file": file, "row": row, "reason": reason}) + "\n").encode()
