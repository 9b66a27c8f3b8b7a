"""ARM64's Python under QEMU, where `make arm64` has put one together: for kernels that no CPU here runs."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".arm64"

# Whether this machine runs them without.
NEEDED = platform.machine() not in ("aarch64", "arm64")


def missing() -> str:
    """Why nothing can be emulated here; empty where it can."""
    if shutil.which("qemu-aarch64") is None:
        return "there is no qemu-aarch64: install qemu-user"
    return "" if (FOLDER / "site").is_dir() else "ARM64's Python is not there: make arm64"


def run(*arguments: str, cpu: str = "max", **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs ARM64's Python with the installed wheel on a CPU as QEMU calls it."""
    command = [
        "qemu-aarch64",
        "-cpu",
        cpu,
        "-L",
        str(FOLDER / "root"),
        str(FOLDER / "root/usr/bin/python3"),
        *arguments,
    ]
    site = str(FOLDER / "site")
    environment = {**os.environ, "PYTHONPATH": site, **variables}
    # Where Python looks first there is no other stcompile.
    return subprocess.run(command, env=environment, cwd=site, capture_output=True, text=True, check=False)
