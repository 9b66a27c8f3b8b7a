"""How long until a fresh process has its first vector, and how much memory does it take?

Starts a new interpreter N times: python start, import of stcompile, load of the artifact (engine import, sha256 of
every file, session), first encode. One more start before them is not counted: it fills the file cache and writes the
bytecode, as any first start after an installation does. Exits with 1 when the median is above the promised second or
when torch was imported.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._common import (
    at_least_one,
    last_line,
    machine_facts,
    parser,
    print_table,
    run,
    write_json,
)
from stcompile.artifact import open_artifact
from stcompile.compiler.timing import Spread
from stcompile.errors import InputError

PROMISED_SECONDS = 1.0
PARTS = ("python start", "import", "load", "first encode", "total")
CHILD = Path(__file__).with_name("_first_vector.py")

_TIMEOUT = 120


def main() -> int:
    arguments = _arguments()
    artifact = open_artifact(arguments.artifact)
    machine = machine_facts()
    found = [_start(arguments.python, arguments.artifact) for _ in range(arguments.runs + 1)][1:]
    seconds = {part: Spread.of([start[part] for start in found]) for part in PARTS}
    memory = Spread.of([start["peak_rss_mb"] for start in found])
    torch_imported = any(start["torch_imported"] for start in found)
    torch_installed = _imports(arguments.python, "torch")
    kept = seconds["total"].median <= PROMISED_SECONDS and not torch_imported
    settings = {
        "target": artifact.manifest.target,
        "artifact_mb": round(artifact.size / 1e6, 1),
        "runs": arguments.runs,
        "promised_seconds": PROMISED_SECONDS,
        "torch_installed": torch_installed,
    }
    results = {
        "seconds": {part: spread.to_dict(4) for part, spread in seconds.items()},
        "peak_rss_mb": memory.to_dict(1),
        "torch_imported": torch_imported,
        "promise_kept": kept,
    }
    _print(settings, seconds, memory, _verdict(seconds["total"].median, torch_imported, torch_installed))
    write_json(arguments.json, "cold_start", machine, settings, results)
    return 0 if kept else 1


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, "python -m benchmarks.cold_start --artifact minilm-int8 --python lean/bin/python")
    made.add_argument(
        "--artifact", type=Path, required=True, metavar="DIR", help="what `stcompile export` made of a model"
    )
    made.add_argument(
        "--python",
        default=sys.executable,
        metavar="FILE",
        help="interpreter to start; best one of an environment with stcompile[cpu] and nothing else, as in production "
        "(default: this one)",
    )
    made.add_argument("--runs", type=at_least_one, default=20, help="counted starts (default: 20)")
    return made.parse_args()


def _start(python: str, artifact: Path) -> dict[str, Any]:
    """One fresh process; its report."""
    command = [python, str(CHILD), repr(time.monotonic()), str(artifact)]
    done = _run(python, command)
    if done.returncode != 0:
        reason = last_line(done.stderr)
        raise InputError(f"the interpreter of --python could not encode with this artifact: {reason}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _imports(python: str, module: str) -> bool:
    """Whether the interpreter could import `module`, without importing it."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return _run(python, [python, "-c", code]).returncode == 0


def _run(python: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    # Without bytecode on disk every start would compile the sources again.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=_TIMEOUT)
    except OSError as error:
        raise InputError(f"{python} cannot be started ({error.strerror}): check --python") from error
    except subprocess.TimeoutExpired as error:
        raise InputError(f"no vector after {_TIMEOUT} s: the machine or the artifact is not usable") from error


def _verdict(total: float, torch_imported: bool, torch_installed: bool) -> list[str]:
    word = "kept" if total <= PROMISED_SECONDS else "BROKEN"
    lines = [f"Promise {word}: first vector after {total:.2f} s (median), promised {PROMISED_SECONDS:g} s."]
    if torch_imported:
        lines.append("Promise BROKEN: torch was imported by the runtime.")
    elif torch_installed:
        lines.append("torch is installed beside it but was not imported; a lean environment starts like production.")
    else:
        lines.append("torch is not installed in this environment.")
    return lines


def _print(settings: dict[str, Any], seconds: dict[str, Spread], memory: Spread, verdict: Sequence[str]) -> None:
    rows = [[part, *(f"{1000 * value:.0f} ms" for value in _values(spread))] for part, spread in seconds.items()]
    rows.append(["peak memory", *(f"{value:.0f} MB" for value in _values(memory))])
    title = f"Cold start of {settings['target']} ({settings['artifact_mb']} MB), {settings['runs']} fresh processes"
    print_table(title, ("part", "median", "min", "max"), rows, verdict)


def _values(spread: Spread) -> tuple[float, float, float]:
    return spread.median, spread.low, spread.high


if __name__ == "__main__":
    run(main)
