"""How far a job is, for whoever watches it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass
class Progress:
    """Counts of a run, as they stand.

    Attributes:
        rows: of the whole job.
        before: rows that earlier runs did.
        done: rows that this run did.
        tokens: that it read.
        started: monotonic seconds, when it began to encode.
    """

    rows: int
    before: int
    done: int = 0
    tokens: int = 0
    started: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """Starts the clock: everything is open."""
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it began to encode."""
        return max(time.monotonic() - self.started, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far; None before the first row."""
        return (self.rows - self.before - self.done) * self.seconds / self.done if self.done else None


class Watcher(Protocol):
    """Is told of a run, on the thread that began it, several times a second where somebody looks."""

    def __call__(self, progress: Progress) -> None:
        """Shows it."""

    def wants_stop(self) -> bool:
        """Whether to begin no shard any more."""


class Silent:
    """Shows nothing and never stops."""

    def __call__(self, progress: Progress) -> None:
        """As `Watcher`."""

    def wants_stop(self) -> bool:
        """As `Watcher`."""
        return False


def summary(plan: Any, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The counts of a job that is done; the same whenever and however often it was begun."""
    files: list[dict[str, Any]] = [
        {
            "file": item.file.address,
            "error": item.error,
            "rows": item.rows,
            "written": 0,
            "rejected": 0,
            "is_damaged": False,
        }
        for item in plan.files
    ]
    shards = []
    for shard, entry in zip(plan.shards(), entries, strict=True):
        files[shard.file]["written"] += entry["written"]
        files[shard.file]["rejected"] += entry["rejected"]
        files[shard.file]["is_damaged"] |= entry["is_damaged"]
        shards += [{**file, "rows": entry["written"]} for file in entry["files"]]
    return {
        "rows": plan.rows,
        "written": sum(item["written"] for item in files),
        "rejected": sum(item["rejected"] for item in files),
        "unreadable_files": sum(item["error"] is not None or item["is_damaged"] for item in files),
        "artifact": {"address": plan.artifact, "manifest_sha256": plan.artifact_digest},
        "options": plan.options.to_json(),
        "input": files,
        "output": shards,
    }
