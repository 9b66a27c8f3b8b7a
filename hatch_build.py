"""Compiles the fused operators into the package, where there is a compiler and a system that they are for.

`STCOMPILE_NATIVE=0` leaves them out; `STCOMPILE_NATIVE=1` makes it an error if they cannot be built.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("native") / "operators.cpp"
LIBRARY = Path("stcompile") / "kernels" / "_native.so"

# Every instruction set that stcompile/kernels/cpu_features.py asks for before the library is loaded. The C++ library is
# linked in: slim containers do not have one.
FLAGS = (
    *(
        "-std=c++17",
        "-O3",
        "-fPIC",
        "-shared",
        "-fvisibility=hidden",
        "-static-libstdc++",
        "-static-libgcc",
        "-Wl,--exclude-libs,ALL",
    ),
    *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mavx512bf16", "-mfma", "-mavx2"),
    "-Wno-maybe-uninitialized",  # what GCC 12 says of its own intrinsics
)


class NativeBuildHook(BuildHookInterface[Any]):
    """Runs before a wheel, editable or not, is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wanted = os.environ.get("STCOMPILE_NATIVE", "")
        library = Path(self.root) / LIBRARY
        library.unlink(missing_ok=True)
        if wanted == "0":
            return
        problem = _built(Path(self.root) / SOURCE, library)
        if problem is None:
            build_data["artifacts"].append(LIBRARY.as_posix())
            build_data["pure_python"] = False
            # For an index, auditwheel makes it a manylinux wheel: nothing but the C library is needed.
            build_data["tag"] = "py3-none-linux_x86_64"
        elif wanted == "1":
            raise RuntimeError(problem)
        else:
            self.app.display_warning(f"without the fused operators: {problem}")


def _built(source: Path, library: Path) -> str | None:
    """Compiles; returns what kept it from that, or None."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return "they are for Linux on x86-64"
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        return "there is no C++ compiler: install g++ 12 or later, or name another one in CXX"
    done = subprocess.run(
        [compiler, *FLAGS, str(source), "-o", str(library)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return f"{compiler} could not compile them: {done.stderr.strip()[-500:]}"
    return None
