"""The package's own operators for ONNX Runtime: where their library is, and what keeps them from running here."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from pathlib import Path
from typing import NamedTuple

from stcompile.errors import ProviderError

# The domain of the operators in a graph.
DOMAIN = "stcompile"

# What chooses kernels other than the fastest, or none.
VARIABLE, NONE = "STCOMPILE_KERNELS", "none"

# What computes an operator where no kernel does.
BODY = "body"

# As hatch_build.py calls it.
_SUFFIXES = {"Darwin": ".dylib", "Windows": ".dll"}
_LIBRARY = Path(__file__).with_name(f"_native{_SUFFIXES.get(platform.system(), '.so')}")


class Kernels(NamedTuple):
    """What a library says of itself: generations of CPUs that it has kernels for, from narrow to wide.

    Attributes:
        compiled: all of them.
        here: those that this CPU runs.
        taken: the one that its operators take; empty where they take none.
        refusal: why they take none.
    """

    compiled: tuple[str, ...]
    here: tuple[str, ...]
    taken: str
    refusal: str


def refusals() -> tuple[str, ...]:
    """Why the operators cannot run here, one sentence each; empty where they can."""
    if os.environ.get(VARIABLE) == NONE:
        return (f"{VARIABLE}={NONE}",)
    if not _LIBRARY.is_file():
        return (
            "this installation has no kernels: wheels for x86-64 (Linux, Windows) and ARM64 (Linux, macOS) have them; "
            "elsewhere install stcompile again where there is a C++ compiler (g++ 12 or later)",
        )
    refusal = kernels().refusal
    return (refusal,) if refusal else ()


def kernels() -> Kernels:
    """What the installed library has and takes; ONNX Runtime is not needed to tell. It chooses once a process."""
    return _kernels(_LIBRARY)


def generation() -> str | None:
    """The kernels that operators take, by the CPU generation they are for; None where they take none."""
    return None if refusals() else kernels().taken


def generations() -> tuple[str, ...]:
    """All kernels that this CPU could run, the fastest first."""
    return () if refusals() else kernels().here[::-1]


def library() -> Path | None:
    """The library to register with ONNX Runtime; None where it cannot run, and the operators' bodies are taken.

    Raises:
        ProviderError: `STCOMPILE_KERNELS` names kernels that there are not, or not for this CPU.
    """
    reasons = refusals()
    if reasons and _LIBRARY.is_file() and kernels().here and kernels().refusal in reasons:
        raise ProviderError(kernels().refusal)
    return None if reasons else _LIBRARY


@functools.cache
def _kernels(path: Path) -> Kernels:
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        return Kernels((), (), "", f"the fused operators cannot be loaded ({error})")

    def asked(name: str) -> str:
        ask = loaded[f"stcompile_kernels_{name}"]
        ask.restype = ctypes.c_char_p
        return str(ask().decode())

    return Kernels(tuple(asked("compiled").split()), tuple(asked("here").split()), asked("taken"), asked("refusal"))
