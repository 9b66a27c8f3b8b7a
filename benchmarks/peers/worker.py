"""One contender in a process of its own environment, started as a file.

Reads its settings and then one job a line from standard input, and answers each job with one line of JSON: `encode`
times one pass over a file of texts and tells the peak of memory, `single` times every text of it by itself, `vectors`
writes the vectors of a file as `.npy`, of all texts in one call or of some `together` in each. Told to prepare a model,
it answers once: what that took. Needs nothing but the contender's own packages and numpy.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Encode = Callable[[list[str]], Any]


def main() -> None:
    settings = json.loads(sys.stdin.readline())
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    if "cpus" in settings and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, settings["cpus"])
    adapter = importlib.import_module(f"adapters.{settings['adapter']}")
    if settings["prepare"]:
        started = time.perf_counter()
        adapter.prepare(settings["source"], settings["model"], settings["options"])
        answers.write(json.dumps(_taken(time.perf_counter() - started)) + "\n")
        return
    encode = adapter.load(settings["model"], settings["threads"], settings["options"])
    for line in sys.stdin:
        job = json.loads(line)
        texts = json.loads(Path(job["texts"]).read_text(encoding="utf-8"))
        answers.write(json.dumps(JOBS[job["do"]](encode, texts, job)) + "\n")


def _encode(encode: Encode, texts: list[str], job: dict[str, Any]) -> dict[str, Any]:
    started, busy = time.perf_counter(), time.process_time()
    encode(texts)
    answer = {"cpu": time.process_time() - busy, "wall": time.perf_counter() - started}
    return {**answer, "peak_mb": _peak_mb()}


def _peak_mb() -> float:
    """The most memory that the process has held so far; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM")), 0.0)


def _taken(wall: float) -> dict[str, float]:
    """Seconds, and the peak of memory: of this process, or of one that it started, whichever is larger."""
    try:
        import resource  # noqa: PLC0415 - Windows has none
    except ImportError:
        return {"wall_seconds": wall, "cpu_seconds": time.process_time(), "peak_mb": 0.0}
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = time.process_time() + children.ru_utime + children.ru_stime
    return {"wall_seconds": wall, "cpu_seconds": busy, "peak_mb": max(_peak_mb(), children.ru_maxrss / 1e3)}


def _single(encode: Encode, texts: list[str], job: dict[str, Any]) -> dict[str, Any]:
    seconds = []
    for text in texts:
        started = time.perf_counter()
        encode([text])
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds}


def _vectors(encode: Encode, texts: list[str], job: dict[str, Any]) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415 - after the time of the first vector

    size = job.get("together", max(1, len(texts)))
    parts = [np.asarray(encode(texts[start : start + size]), np.float32) for start in range(0, len(texts), size)]
    np.save(job["save"], np.concatenate(parts))
    return {}


JOBS = {"encode": _encode, "single": _single, "vectors": _vectors}

if __name__ == "__main__":
    main()
