"""How much does the torch-free runtime install, and how long do its imports take?

Makes an empty virtual environment in a temporary folder, installs `stcompile[cpu]` from this repository (or what
--requirement names), and looks: torch, transformers and onnx must not be there, every package with its size on disk,
and the time of each import in fresh processes. Exits with 1 when one of the three came along.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import venv
from collections.abc import Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from benchmarks._common import (
    REPOSITORY,
    at_least_one,
    machine_facts,
    parser,
    print_table,
    run,
    status,
    write_json,
)
from stcompile.compiler.timing import Spread
from stcompile.errors import InputError

UNWANTED = ("torch", "transformers", "onnx")
# What the virtual environment itself brings.
TOOLS = ("pip", "setuptools", "wheel")
IMPORTS = {
    "stcompile": "import stcompile",
    "stcompile.load": "import stcompile; stcompile.load",
    "numpy": "import numpy",
    "tokenizers": "import tokenizers",
    "onnxruntime": "import onnxruntime",
}


def main() -> int:
    arguments = _arguments()
    machine = machine_facts()
    with tempfile.TemporaryDirectory(prefix="stcompile-footprint-") as folder:
        status(f"Installing {_shown(arguments.requirement)} into an empty environment")
        python = _make_environment(Path(folder) / "env", arguments.requirement, arguments.constraint)
        packages = _packages(python)
        unwanted = [name for name in UNWANTED if _run([str(python), "-c", f"import {name}"]).returncode == 0]
        status(f"Timing imports, {arguments.runs} fresh processes each")
        imports = _import_times(python, arguments.runs)
    total = sum(package["bytes"] for package in packages)
    settings = {"requirement": _shown(arguments.requirement), "runs": arguments.runs}
    results = {
        "packages": packages,
        "total_mb": round(total / 1e6, 1),
        "unwanted": unwanted,
        "import_ms": {name: spread.to_dict(1) for name, spread in imports.items()},
    }
    _print(packages, total, imports, unwanted)
    write_json(arguments.json, "footprint", machine, settings, results)
    return 1 if unwanted else 0


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, "python -m benchmarks.footprint --requirement 'dist/stcompile-0.1.0-py3-none-any.whl[cpu]'")
    made.add_argument(
        "--requirement",
        default=f"{REPOSITORY}[cpu]",
        metavar="WHAT",
        help="what to pip install: a wheel with [cpu], or any requirement (default: this repository with [cpu])",
    )
    made.add_argument("--constraint", type=Path, metavar="FILE", help="pip's constraints, to pin the versions")
    made.add_argument("--runs", type=at_least_one, default=11, help="fresh processes per import (default: 11)")
    return made.parse_args()


def _shown(requirement: str) -> str:
    """The requirement without the folder of a local one."""
    return "stcompile[cpu] of this repository" if requirement.startswith(str(REPOSITORY)) else Path(requirement).name


def _make_environment(folder: Path, requirement: str, constraint: Path | None) -> Path:
    """Makes the environment; returns its interpreter."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]
    done = _run(command if constraint is None else [*command, "--constraint", str(constraint)])
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
        raise InputError(f"pip could not install {_shown(requirement)}: {errors[0]}")
    return python


def _packages(python: Path) -> list[dict[str, Any]]:
    """Name, version and bytes on disk of everything installed but pip, the largest first."""
    site = _run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).stdout.strip()
    found = [
        {"name": package.metadata["Name"], "version": package.version, "bytes": _size(package)}
        for package in distributions(path=[site])
        if package.metadata["Name"] not in TOOLS
    ]
    return sorted(found, key=lambda package: -int(package["bytes"]))


def _size(package: Distribution) -> int:
    located = [Path(str(package.locate_file(entry))) for entry in package.files or ()]
    return sum(path.stat().st_size for path in located if path.is_file())


def _import_times(python: Path, runs: int) -> dict[str, Spread]:
    """Milliseconds of each import in a process of its own; the first of each is not counted."""
    found: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(runs + 1):
        for name, statement in IMPORTS.items():
            code = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
            done = _run([str(python), "-c", code])
            if done.returncode != 0:
                raise InputError(f"`{statement}` fails in the new environment: {done.stderr.strip().splitlines()[-1]}")
            found[name].append(1000 * float(done.stdout))
    return {name: Spread.of(times[1:]) for name, times in found.items()}


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    # A PYTHONPATH would let the environment see more than was installed into it.
    hidden = ("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def _print(packages: Sequence[dict[str, Any]], total: int, imports: dict[str, Spread], unwanted: Sequence[str]) -> None:
    rows = [[package["name"], package["version"], f"{package['bytes'] / 1e6:.1f}"] for package in packages]
    rows.append(["total", "", f"{total / 1e6:.1f}"])
    came = f"{', '.join(unwanted)} CAME ALONG" if unwanted else f"{', '.join(UNWANTED)} are not installed"
    print_table("Installed", ("package", "version", "MB"), rows, [f"{came}.", ""])
    times = [[name, *(f"{value:.1f}" for value in (it.median, it.low, it.high))] for name, it in imports.items()]
    print_table("Imports in fresh processes, ms", ("import", "median", "min", "max"), times)


if __name__ == "__main__":
    run(main)
