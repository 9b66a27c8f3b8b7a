"""The shipped runtime in a process of its own, without torch: what parity judges."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stcompile.artifact import scratch
from stcompile.artifact.manifest import RoutingSpec
from stcompile.compiler.metrics import Matrix, as_ragged
from stcompile.errors import ParityError, StcompileError
from stcompile.runtime.text.base import Text
from stcompile.runtime.worker import COUNTS, EXIT_BAD_INPUT


@dataclass(frozen=True)
class Run:
    """One call of `Encoder.encode`, or of `Reranker.predict`.

    Attributes:
        order: positions of the texts, in the order they are handed over.
        options: keyword arguments of it.
        kernels: whether the package's own operators are computed by its kernels, where this machine has them.
        part: of a hybrid encoder, which of its `HybridEmbeddings` in place of what `encode` gives; empty for that.
    """

    order: Sequence[int]
    options: dict[str, Any] = field(default_factory=dict)
    kernels: bool = True
    part: str = ""


def run_shipped(
    artifact: Path, texts: Sequence[Text], runs: dict[str, Run], *, device: str, threads: int | None = None
) -> dict[str, Matrix]:
    """Encodes with the artifact in a fresh process that must not import torch.

    Returns:
        run name to float32 `(len(order), dim)`; token rows of several texts come one after the other. Of vectors of
        tokens an array of objects, of each text float32 `(tokens, dim)`.

    Raises:
        ParityError: the process crashed, or torch got into it.
        StcompileError: the runtime refused, in its own words, or the temporary folder is full.
    """
    with scratch("parity") as folder:
        job = folder / "job.json"
        content = {
            "artifact": str(artifact.resolve()),
            "device": device,
            "threads": threads,
            "texts": list(texts),
            "runs": {
                name: {"order": list(run.order), "options": run.options, "kernels": run.kernels, "part": run.part}
                for name, run in runs.items()
            },
        }
        job.write_text(json.dumps(content), encoding="utf-8")
        command = [sys.executable, "-m", "stcompile.runtime.worker", str(job)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == EXIT_BAD_INPUT:
            raise StcompileError(done.stderr.strip() or "the runtime refused the artifact")
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise ParityError(f"the runtime failed on the compiled graph ({last}); nothing was published")
        return {name: _read(job, name) for name in runs}


def task_of(routing: RoutingSpec | None, route: str) -> str | None:
    """A task that takes the route; None where no task does."""
    if routing is None or routing.default == route:
        return None
    # A task nobody named takes `otherwise`.
    return next((task for task, taken in routing.tasks.items() if taken == route), "any other task")


def _read(job: Path, name: str) -> Matrix:
    found: Matrix = np.load(job.with_name(f"{name}.npy"))
    counts = job.with_name(f"{name}{COUNTS}")
    if not counts.is_file():
        return found
    return as_ragged(np.split(found, np.cumsum(np.load(counts))[:-1]))
