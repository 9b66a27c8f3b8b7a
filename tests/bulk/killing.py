"""Kills jobs at random moments, by what a user runs, until they are done.

    python -m tests.bulk.killing ARTIFACT FOLDER KILLS [ray]

Prints a line a kill, and in the end a JSON line with what was lost, doubled or other than of a run that nobody killed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.bulk.files import bytes_of, descendants, rows_of

ROWS, SHARD_ROWS = 4_000, 100

# Ray on a small machine.
ON_RAY = ["--engine", "ray", "--threads", "1", "--workers", "1"]


def command(artifact: Path, folder: Path, output: Path, engine: Sequence[str]) -> list[str]:
    """What a user types."""
    files = ["--input", str(folder / "in"), "--id", "id", "--output", str(output)]
    return [
        sys.executable,
        "-m",
        "stcompile",
        "encode",
        str(artifact),
        *files,
        "--shard-rows",
        str(SHARD_ROWS),
        *engine,
    ]


def make_input(folder: Path) -> None:
    """Rows in files of several row groups; one of fifty has no text."""
    (folder / "in").mkdir(parents=True)
    words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog"]
    chance = random.Random(0)
    texts: list[Any] = [" ".join(chance.choices(words, k=chance.randint(1, 30))) for _ in range(ROWS)]
    texts[::50] = [None] * len(texts[::50])
    for part in range(4):
        rows = range(part * ROWS // 4, (part + 1) * ROWS // 4)
        table = pa.table(
            {"id": pa.array(rows, pa.int64()), "text": pa.array([texts[row] for row in rows], pa.string())}
        )
        pq.write_table(table, folder / "in" / f"{part}.parquet", row_group_size=300)


def entries(output: Path) -> int:
    """Shards that are done."""
    return len(list((output / "_stcompile" / "journal").glob("*.json")))


def kill(process: subprocess.Popen[bytes], kind: str) -> None:
    """Without a word: the one that was started, a process below it, or all of them."""
    below = descendants(process.pid)
    workers = [pid for pid in below if _is_worker(pid)]
    chosen = {"driver": [process.pid], "worker": workers[:1], "tree": below}[kind]
    for pid in chosen:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _is_worker(pid: int) -> bool:
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"ShardActor" in title or b"multiprocessing.spawn" in title


def demonstrate(
    artifact: Path, folder: Path, kills: int, engine: Sequence[str], kinds: Sequence[str]
) -> dict[str, Any]:
    """Runs jobs until so many were killed; what was found in the end of each."""
    make_input(folder)
    whole = folder / "whole"
    # Without the engine: what is written does not depend on it.
    subprocess.run(command(artifact, folder, whole, []), check=True, capture_output=True)
    expected = {name: content for name, content in bytes_of(whole).items() if not name.startswith("_stcompile/plan")}
    chance = random.Random(kills)
    found: dict[str, Any] = {"kills": 0, "jobs": 0, "lost": 0, "doubled": 0, "different": 0, "partial": 0}
    while found["kills"] < kills:
        output = folder / f"out{found['jobs']}"
        while not (output / "_summary.json").exists():
            process = subprocess.Popen(
                command(artifact, folder, output, engine), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            if found["kills"] < kills:
                goal = entries(output) + chance.randint(0, 12)
                while process.poll() is None and entries(output) < goal:
                    time.sleep(0.002)
                time.sleep(chance.random() * 0.05)
                if process.poll() is None:
                    kind = kinds[found["kills"] % len(kinds)]
                    kill(process, kind)
                    found["kills"] += 1
                    done = f"{entries(output)} of {ROWS // SHARD_ROWS}"
                    sys.stderr.write(f"kill {found['kills']}: {kind}, {done} shards\n")
            _, said = process.communicate()
            if process.returncode not in (0, -signal.SIGKILL, 2):
                raise SystemExit(f"it ended with {process.returncode}: {said.decode()[-2000:]}")
        found["jobs"] += 1
        ids = Counter(rows_of(output)["id"].to_pylist())
        found["lost"] += ROWS - ROWS // 50 - len(ids)
        found["doubled"] += sum(count > 1 for count in ids.values())
        now = {name: content for name, content in bytes_of(output).items() if not name.startswith("_stcompile/plan")}
        found["different"] += sum(now.get(name) != content for name, content in expected.items()) + len(
            now.keys() - expected
        )
        found["partial"] += sum(".partial-" in path.name for path in output.rglob("*"))
        shutil.rmtree(output)
    return found


if __name__ == "__main__":
    on_ray = sys.argv[4:] == ["ray"]
    asked = ON_RAY if on_ray else []
    kinds = ("driver", "worker", "tree") if on_ray else ("driver",)
    result = demonstrate(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), asked, kinds)
    sys.stdout.write(json.dumps(result) + "\n")
