"""Compiles the fused operators into the package, where there is a compiler and a system that they are for.

`STCOMPILE_NATIVE=0` leaves them out; `STCOMPILE_NATIVE=1` makes it an error if they cannot be built. Where `CXX` is a
cross compiler, `STCOMPILE_PLATFORM` says what it compiles for, in the words of a wheel's name: manylinux_2_28_aarch64.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = Path("native")
PACKAGE = Path("stcompile") / "kernels"

# A product and a sum are rounded each for itself unless the source says otherwise, whatever the compiler: every
# generation rounds activations to the same levels.
FLAGS = ("-std=c++17", "-O3", "-fvisibility=hidden", "-ffp-contract=off", "-Wno-maybe-uninitialized")

# Units of `native/generations`, from narrow to wide, each with what it alone is compiled for; native/cpu asks the CPU
# for the same. All but the first are left out where the compiler does not know them.
_AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mfma", "-mavx2")
X86_64: dict[str, tuple[str, ...]] = {
    "avx2": ("-mavx2", "-mfma"),
    "avx_vnni": ("-mavx2", "-mfma", "-mavxvnni"),
    "avx512_vnni": _AVX512,
    "avx512_bf16": (*_AVX512, "-mavx512bf16"),
    "amx": (*_AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-int8", "-mamx-bf16"),
}
ARM64: dict[str, tuple[str, ...]] = {"neon": (), "neon_i8mm": ()}


class System(NamedTuple):
    """What the library is called, how it is compiled and linked, and what for, by the last part of a wheel's name."""

    library: str
    compiled: tuple[str, ...]
    linked: tuple[str, ...]
    kernels: dict[str, dict[str, tuple[str, ...]]]


# By the first part of a wheel's name. The C++ library is linked in: slim containers and Windows have none.
_LINKED = ("-shared", "-s", "-static-libstdc++", "-static-libgcc", f"-Wl,--version-script={SOURCES / 'exports.map'}")
SYSTEMS = {
    "linux": System("_native.so", ("-fPIC",), _LINKED, {"x86_64": X86_64, "aarch64": ARM64}),
    "macosx": System("_native.dylib", ("-fPIC",), ("-dynamiclib",), {"arm64": ARM64}),
    "win": System("_native.dll", (), ("-shared", "-s", "-static-libstdc++", "-static-libgcc"), {"amd64": X86_64}),
}

# What wheels for this machine are called.
HERE = {
    ("Linux", "x86_64"): "linux_x86_64",
    ("Linux", "aarch64"): "linux_aarch64",
    ("Darwin", "arm64"): "macosx_11_0_arm64",
    ("Windows", "AMD64"): "win_amd64",
}

# What every CPU of a kind runs: it asks the CPU what else it has.
COMMON = ("operators", "dispatch")


class NativeBuildHook(BuildHookInterface[Any]):
    """Runs before a wheel, editable or not, is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wanted, root = os.environ.get("STCOMPILE_NATIVE", ""), Path(self.root)
        for system in SYSTEMS.values():
            (root / PACKAGE / system.library).unlink(missing_ok=True)
        if wanted == "0":
            return
        target = os.environ.get("STCOMPILE_PLATFORM") or HERE.get((platform.system(), platform.machine()), "")
        library, problem, left_out = _built(root, target)
        for reason in left_out:
            self.app.display_warning(reason)
        if problem is None:
            build_data["artifacts"].append(library.as_posix())
            build_data["pure_python"] = False
            # For an index, auditwheel makes `linux` manylinux: nothing but the C library is needed.
            build_data["tag"] = f"py3-none-{target}"
        elif wanted == "1":
            raise RuntimeError(problem)
        else:
            self.app.display_warning(f"without the fused operators: {problem}")


def _built(root: Path, target: str) -> tuple[Path, str | None, list[str]]:
    """Compiles and links for a platform; returns the library, what kept it from that, and what is left out."""
    system = SYSTEMS.get(target.removeprefix("many").partition("_")[0])
    known = system.kernels if system else {}
    generations = next((found for cpu, found in known.items() if target.endswith(f"_{cpu}")), None)
    if system is None or generations is None:
        return root, "they are for x86-64 (Linux, Windows) and ARM64 (Linux, macOS)", []
    library = PACKAGE / system.library
    compiler = shlex.split(os.environ.get("CXX", "g++"))
    if shutil.which(compiler[0]) is None:
        return library, "there is no C++ compiler: install g++ 12 or later, or name another one in CXX", []

    def ran(*arguments: str) -> str | None:
        """What the compiler said last where it failed."""
        done = subprocess.run([*compiler, *arguments], cwd=root, capture_output=True, text=True, check=False)
        said = done.stderr.strip()[-500:]
        return f"{shlex.join(compiler)} could not compile them: {said}" if done.returncode else None

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        objects: list[str] = []

        def compiled(unit: str, *flags: str) -> str | None:
            made = str(Path(folder) / f"{Path(unit).name}.o")
            problem = ran(*FLAGS, *system.compiled, *flags, "-c", str(SOURCES / f"{unit}.cpp"), "-o", made)
            if problem is None:
                objects.append(made)
            return problem

        units = {name: pool.submit(compiled, f"generations/{name}", *flags) for name, flags in generations.items()}
        failed = {name: problem for name, unit in units.items() if (problem := unit.result()) is not None}
        narrowest = next(iter(generations))
        table = f"-DSTCOMPILE_GENERATIONS={' '.join(f'ONE({name})' for name in generations if name not in failed)}"
        said = [failed.pop(narrowest, None), *pool.map(lambda unit: compiled(unit, table), COMMON)]
        problem = next(filter(None, said), None) or ran(*system.linked, *sorted(objects), "-o", str(library))
    return library, problem, [f"without the {name} kernels: {reason}" for name, reason in failed.items() if not problem]
