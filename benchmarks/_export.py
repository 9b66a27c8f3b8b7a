"""The measured process of `export_cost`: started as a file, so that any checkout of stcompile can be exported with.

Reads a job as JSON from its argument and prints one JSON object: what an export took, its memory sampled all the while.
"""

import contextlib
import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_SECONDS_BETWEEN_SAMPLES = 0.005


def measured(job: dict[str, Any]) -> dict[str, Any]:
    from stcompile import export_model  # noqa: PLC0415 - of the checkout that the job names

    phases = _Phases()
    options = {} if job["texts"] is None else {"texts": job["texts"]}
    with tempfile.TemporaryDirectory(prefix="stcompile-benchmark-") as folder, phases.sampled():
        export_model(job["model"], Path(folder) / "artifact", job["target"], step=phases.step, **options)
    return {
        "peak_mb": _high_water(),
        "left_mb": _resident("self"),
        "tree_peak_mb": max(phase["tree_peak_mb"] for phase in phases.found.values()),
        "cpu_seconds": {
            who: round(usage.ru_utime + usage.ru_stime, 1)
            for who, usage in (
                ("self", resource.getrusage(resource.RUSAGE_SELF)),
                ("children", resource.getrusage(resource.RUSAGE_CHILDREN)),
            )
        },
        "phases": {
            name: {key: round(value, 1) for key, value in phase.items()} for name, phase in phases.found.items()
        },
    }


class _Phases:
    """Peak memory and CPU seconds of each step of an export."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}
        self._now = "between steps"

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        before, cpu = self._now, time.process_time()
        self._now = name
        try:
            yield lambda _: None
        finally:
            self._sample()
            self.found[name]["cpu_seconds"] = time.process_time() - cpu
            self._now = before

    @contextlib.contextmanager
    def sampled(self) -> Iterator[None]:
        stop = threading.Event()

        def sample() -> None:
            while not stop.wait(_SECONDS_BETWEEN_SAMPLES):
                self._sample()

        watcher = threading.Thread(target=sample)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()

    def _sample(self) -> None:
        own = _resident("self")
        phase = self.found.setdefault(self._now, {"peak_mb": 0.0, "tree_peak_mb": 0.0})
        phase["peak_mb"] = max(phase["peak_mb"], own)
        phase["tree_peak_mb"] = max(phase["tree_peak_mb"], own + _children())


def _resident(process: str) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _children() -> float:
    """Of the processes that this one started: what they share with it counts twice."""
    total = 0.0
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError, ValueError):
            total += sum(_resident(child) for child in (thread / "children").read_text(encoding="ascii").split())
    return total


def _high_water() -> float:
    """Linux counts the parent's peak into `ru_maxrss` after a fork."""
    with open("/proc/self/status", encoding="utf-8") as stream:  # noqa: PTH123 - line by line
        return next(int(line.split()[1]) * 1024 / 1e6 for line in stream if line.startswith("VmHWM:"))


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file: torch would take its cuda.py for a package of NVIDIA's
    print(json.dumps(measured(json.loads(sys.argv[1]))))
