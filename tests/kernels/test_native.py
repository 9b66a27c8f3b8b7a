"""Why kernels do not run: no library, one for another machine, a CPU it has nothing for. The bodies are taken then."""

from __future__ import annotations

from pathlib import Path

import pytest

from stcompile.kernels import native
from stcompile.kernels.native import Kernels


def refusal() -> str:
    (reason,) = native.refusals()
    assert (native.library(), native.generation(), native.generations()) == (None, None, ())
    return reason


def test_an_installation_without_the_library_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native, "_LIBRARY", tmp_path / "none.so")
    assert "wheels for x86-64 (Linux, Windows) and ARM64 (Linux, macOS) have them" in refusal()


def test_a_library_for_another_machine_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "other.so"
    other.write_bytes(b"of another machine")
    monkeypatch.setattr(native, "_LIBRARY", other)
    assert refusal().startswith("the fused operators cannot be loaded (")
    assert refusal().endswith(")")


def test_a_cpu_without_any_kernel_is_told_what_they_need(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = tmp_path / "library.so"
    library.touch()
    monkeypatch.setattr(native, "_LIBRARY", library)
    nothing = Kernels(("avx2",), (), "", "the fused operators need AVX2 and FMA")
    monkeypatch.setattr(native, "_kernels", lambda path: nothing)
    assert refusal() == "the fused operators need AVX2 and FMA"
