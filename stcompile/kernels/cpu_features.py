"""What the CPU can multiply: read from the kernel, so that a target it cannot run is refused before any work."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")

# As /proc/cpuinfo names them, x86 first, then ARM.
_BFLOAT16 = frozenset(("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"))
_INT8_DOT = frozenset(("avx512_vnni", "avx_vnni", "amx_int8", "asimddp"))

# What decides how fast int8, bf16 and fp16 arithmetic is; nothing else of the flags is worth a record.
_TOLD = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "asimddp", "i8mm", "bf16"),
)


def computes_bfloat16() -> bool | None:
    """Whether the CPU multiplies bfloat16; None where the system does not tell."""
    return _has(_BFLOAT16)


def adds_int8_products() -> bool | None:
    """Whether the CPU adds products of 8-bit numbers in one instruction (VNNI); None where the system does not tell."""
    return _has(_INT8_DOT)


def processor() -> tuple[str, list[str]]:
    """The CPU's name, and which of the instruction sets that decide about speed it has."""
    found: dict[str, str] = {}
    for line in _lines(_CPUINFO):
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    title = found.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in found:
        # Virtual machines often hide the product name; these three still identify it.
        title += f" (family {found['cpu family']}, model {found.get('model')}, stepping {found.get('stepping')})"
    return title, [flag for flag in _TOLD if flag in _flags(_CPUINFO)]


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
