"""What the kernel says of the CPU: x86 and ARM, and a system that says nothing."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stcompile.kernels import cpu_features
from stcompile.kernels.cpu_features import adds_int8_products, computes_bfloat16

Write = Callable[[str], None]

X86 = """processor\t: 0
model name\t: Some CPU @ 2.00GHz
flags\t\t: fpu sse2 avx2 {more}
vmx flags\t: vnmi amx_bf16 avx512_vnni
bugs\t\t: spectre_v1

processor\t: 1
flags\t\t: fpu sse2 avx2 {more}
"""

ARM = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd {more}
CPU implementer\t: 0x41
"""


@pytest.fixture
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes what the kernel says; nothing of it stays known."""
    path = tmp_path / "cpuinfo"

    def write(content: str) -> None:
        path.write_text(content, encoding="utf-8")
        cpu_features._flags.cache_clear()

    monkeypatch.setattr(cpu_features, "_CPUINFO", path)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    yield write
    cpu_features._flags.cache_clear()


@pytest.mark.parametrize(
    ("content", "bfloat16", "int8"),
    [
        (X86.format(more=""), False, False),
        (X86.format(more="avx512f avx512bw"), False, False),
        (X86.format(more="avx512_vnni"), False, True),
        (X86.format(more="avx_vnni"), False, True),
        (X86.format(more="avx512_bf16 avx512_vnni"), True, True),
        (X86.format(more="amx_bf16 amx_tile amx_int8"), True, True),
        # no part of another name
        (X86.format(more="avx512_vnni_x amx_bf16x"), False, False),
        (ARM.format(more=""), False, False),
        (ARM.format(more="asimddp"), False, True),
        (ARM.format(more="asimddp bf16 i8mm"), True, True),
    ],
)
def test_the_flags_decide(content: str, bfloat16: bool, int8: bool, cpuinfo: Write) -> None:
    cpuinfo(content)
    assert (computes_bfloat16(), adds_int8_products()) == (bfloat16, int8)


@pytest.mark.parametrize("content", ["", "processor\t: 0\n", "flags\t\t:\n"])
def test_a_kernel_that_says_nothing_is_not_taken_for_a_no(content: str, cpuinfo: Write) -> None:
    cpuinfo(content)
    assert computes_bfloat16() is None
    assert adds_int8_products() is None


def test_without_the_file_nothing_is_known(cpuinfo: Write, tmp_path: Path) -> None:
    assert not (tmp_path / "cpuinfo").exists()
    assert computes_bfloat16() is None


@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_another_system_is_not_asked(system: str, cpuinfo: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo(X86.format(more="avx512_bf16 avx512_vnni"))
    monkeypatch.setattr(platform, "system", lambda: system)
    assert computes_bfloat16() is None
    assert adds_int8_products() is None


def test_this_cpu_is_what_its_kernel_says() -> None:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        assert computes_bfloat16() is None
        return
    words = path.read_text(encoding="utf-8").split()
    assert computes_bfloat16() is any(word in words for word in ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"))
    assert adds_int8_products() is any(word in words for word in ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp"))
