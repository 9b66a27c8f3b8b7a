"""A fuzz target in a process of its own, which may crash, hang or fill memory without taking anybody along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

# What one input may take: it opens an artifact or builds a model of a few hundred kilobytes.
SECONDS_OF_ONE, MEGABYTES = 30, 4096

# How libFuzzer says what ended it.
_CODES = {70: "a hang", 71: "more than 4 GB of memory", 77: "an exception that is no refusal, or a crash"}


@dataclass(frozen=True)
class Fuzzed:
    """How many inputs ended how, and what went wrong, if anything."""

    counts: dict[str, int]
    problem: str = ""


def fuzzed(name: str, seconds: int, seed: int, keep: Path, *options: str) -> Fuzzed:
    """Fuzzes one target for so long.

    Args:
        name: one of `TARGETS`.
        seconds: how long, loading aside.
        seed: of libFuzzer.
        keep: where the input that ended it is kept.
        options: more of libFuzzer's, such as `-runs=100`.
    """
    keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="stcompile-fuzz-") as folder:
        counts, said = Path(folder) / "counts.json", keep / f"{name}.log"
        command = [
            *(sys.executable, "-m", "reliability.fuzz", name, str(counts)),
            *(f"-max_total_time={seconds}", f"-seed={seed}", f"-timeout={SECONDS_OF_ONE}"),
            *(f"-rss_limit_mb={MEGABYTES}", "-max_len=4096", "-len_control=0", "-verbosity=0"),
            *(f"-artifact_prefix={keep}/{name}-", *options),
        ]
        with said.open("w", encoding="utf-8") as log:
            done = subprocess.run(command, stdout=log, stderr=log, check=False, env=_environment(folder))
        found = json.loads(counts.read_text("utf-8")) if counts.is_file() else {}
    if not done.returncode:
        return Fuzzed(found)
    what = _CODES.get(done.returncode, f"exit code {done.returncode}")
    return Fuzzed(found, f"{what}: {_last(said)}; see {said}")


def _environment(folder: str) -> dict[str, str]:
    # What it leaves when it is killed goes with the folder.
    return {**os.environ, "TMPDIR": folder, "OMP_NUM_THREADS": "1"}


def _last(said: Path) -> str:
    """The line that names an exception, or the last."""
    lines = [line.strip() for line in said.read_text("utf-8", "replace").splitlines() if line.strip()]
    raised = [after for line, after in pairwise(lines) if "Uncaught Python exception" in line]
    signals = [line for line in lines if line.startswith("==") and "ERROR" in line]
    return [*raised, *signals, *lines[-1:], "nothing was said"][0][:300]
