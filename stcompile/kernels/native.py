"""The package's own operators for ONNX Runtime: where their library is, and what keeps them from running here."""

from __future__ import annotations

import os
from pathlib import Path

from stcompile.kernels.cpu_features import runs_native_operators

# The domain of the operators in a graph.
DOMAIN = "stcompile"

# What chooses kernels other than the fastest, or none.
VARIABLE, NONE = "STCOMPILE_KERNELS", "none"

_LIBRARY = Path(__file__).with_name("_native.so")

_INSTEAD = "use onnx-int8 or onnx-fp32"


def refusals() -> tuple[str, ...]:
    """Why the operators cannot run here, one sentence each; empty where they can."""
    if os.environ.get(VARIABLE) == NONE:
        return (f"{VARIABLE}={NONE}",)
    reasons = []
    if runs_native_operators() is not True:
        reasons.append(
            "the fused operators need Linux on x86-64 with AVX512-VNNI and AVX512-BF16 (AMD Zen 4, Intel Sapphire "
            f"Rapids, or later): {_INSTEAD}"
        )
    if not _LIBRARY.is_file():
        reasons.append(
            "this installation has no fused operators: install stcompile again where there is a C++ compiler (g++ 12 "
            f"or later); or {_INSTEAD}"
        )
    return tuple(reasons)


def generation() -> str | None:
    """The kernels that this CPU runs, by the CPU generation they are for; None where it runs none."""
    return None if refusals() else "avx512_bf16"


def generations() -> tuple[str, ...]:
    """All kernels that this CPU could run, the fastest first."""
    found = generation()
    return () if found is None else (found,)


def library() -> Path | None:
    """The library to register with ONNX Runtime; None where it cannot run, and the operators' bodies are taken."""
    return None if refusals() else _LIBRARY
