"""Compiles the fused operators into the package, where there is a compiler and a system that they are for.

`STCOMPILE_NATIVE=0` leaves them out; `STCOMPILE_NATIVE=1` makes it an error if they cannot be built.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = Path("native")
LIBRARY = Path("stcompile") / "kernels" / "_native.so"

# The C++ library is linked in: slim containers do not have one. A product and a sum are rounded each for itself unless
# the source says otherwise, whatever the compiler: every generation rounds activations to the same levels.
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-Wno-maybe-uninitialized")
LINKED = ("-shared", "-static-libstdc++", "-static-libgcc")

# What every x86-64 CPU runs: it asks the CPU what else it has.
COMMON = ("operators", "dispatch")

# Units of `native/generations`, from narrow to wide, each with what it alone is compiled for; native/dispatch.cpp asks
# the CPU for the same. All but the first are left out where the compiler does not know them.
_AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mfma", "-mavx2")
GENERATIONS = {
    "avx2": ("-mavx2", "-mfma"),
    "avx_vnni": ("-mavx2", "-mfma", "-mavxvnni"),
    "avx512_vnni": _AVX512,
    "avx512_bf16": (*_AVX512, "-mavx512bf16"),
    "amx": (*_AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-int8", "-mamx-bf16"),
}
MANDATORY = "avx2"


class NativeBuildHook(BuildHookInterface[Any]):
    """Runs before a wheel, editable or not, is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wanted = os.environ.get("STCOMPILE_NATIVE", "")
        library = Path(self.root) / LIBRARY
        library.unlink(missing_ok=True)
        if wanted == "0":
            return
        problem, left_out = _built(Path(self.root) / SOURCES, library)
        for reason in left_out:
            self.app.display_warning(reason)
        if problem is None:
            build_data["artifacts"].append(LIBRARY.as_posix())
            build_data["pure_python"] = False
            # For an index, auditwheel makes it a manylinux wheel: nothing but the C library is needed.
            build_data["tag"] = "py3-none-linux_x86_64"
        elif wanted == "1":
            raise RuntimeError(problem)
        else:
            self.app.display_warning(f"without the fused operators: {problem}")


def _built(sources: Path, library: Path) -> tuple[str | None, list[str]]:
    """Compiles and links; returns what kept it from that, or None, and what was left out."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return "they are for Linux on x86-64", []
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        return "there is no C++ compiler: install g++ 12 or later, or name another one in CXX", []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:

        def compiled(source: Path, *flags: str) -> Path | str:
            """The object, or what the compiler said."""
            made = Path(folder) / f"{source.stem}.o"
            return _ran(compiler, *FLAGS, *flags, "-c", str(source), "-o", str(made)) or made

        units = {
            name: pool.submit(compiled, sources / "generations" / f"{name}.cpp", *flags)
            for name, flags in GENERATIONS.items()
        }
        failed = {name: said for name, unit in units.items() if isinstance(said := unit.result(), str)}
        if MANDATORY in failed:
            return f"{compiler} could not compile them: {failed[MANDATORY]}", []
        table = " ".join(f"ONE({name})" for name in units if name not in failed)
        common = pool.map(lambda name: compiled(sources / f"{name}.cpp", f"-DSTCOMPILE_GENERATIONS={table}"), COMMON)
        objects = [*common, *(unit.result() for unit in units.values())]
        said = [part for part in objects[: len(COMMON)] if isinstance(part, str)]
        linked = [str(part) for part in objects if isinstance(part, Path)]
        exports = f"-Wl,--version-script={sources / 'exports.map'}"
        problem = said[0] if said else _ran(compiler, *LINKED, exports, *linked, "-o", str(library))
    left_out = [
        f"without the {name} kernels: {compiler} could not compile them: {said}" for name, said in failed.items()
    ]
    return problem and f"{compiler} could not compile them: {problem}", left_out


def _ran(*command: str) -> str | None:
    """What the command said last where it failed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip()[-500:] if done.returncode else None
