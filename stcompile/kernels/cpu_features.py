"""What the CPU can multiply: read from the kernel, so that a target it cannot run is refused before any work."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")

# As /proc/cpuinfo names them, x86 first, then ARM.
_BFLOAT16 = frozenset(("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"))
_INT8_DOT = frozenset(("avx512_vnni", "avx_vnni", "amx_int8", "asimddp"))

# Wider vectors, and other products.
_WIDER = frozenset(
    ("avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_fp16", "amx_tile", "i8mm", "sve")
)


def computes_bfloat16() -> bool | None:
    """Whether the CPU multiplies bfloat16; None where the system does not tell."""
    return _has(_BFLOAT16)


def adds_int8_products() -> bool | None:
    """Whether the CPU adds products of 8-bit numbers in one instruction (VNNI); None where the system does not tell."""
    return _has(_INT8_DOT)


def known() -> tuple[str, ...]:
    """What the CPU has of all that changes how a matrix is multiplied; empty where it is not known."""
    return tuple(sorted(_flags(_CPUINFO) & (_BFLOAT16 | _INT8_DOT | _WIDER)))


def model() -> str:
    """What the CPU is called; empty where it is not known."""
    lines = _lines(_CPUINFO)
    return next((line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name")), "")


def _has(wanted: frozenset[str]) -> bool | None:
    flags = _flags(_CPUINFO)
    return bool(flags & wanted) if flags else None


@functools.cache
def _flags(source: Path) -> frozenset[str]:
    lines = _lines(source)
    found = [line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features"))]
    return frozenset(found[0]) if found else frozenset()


def _lines(source: Path) -> list[str]:
    if platform.system() != "Linux":
        return []
    try:
        return source.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
