"""What the build compiles, with a compiler that only says what it was asked: no unit is compiled in earnest."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

import hatch_build

pytestmark = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="the kernels are for Linux on x86-64"
)

COMPILER = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/asked"
case " $* " in *" {unknown} "*) echo "unrecognized command-line option '{unknown}'" >&2; exit 1;; esac
while [ "$1" != -o ]; do shift; done
touch "$2"
"""


def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unknown: str) -> tuple[str | None, list[str], list[str]]:
    """What keeps the library from being built, what is left out, and what the compiler was asked."""
    compiler = tmp_path / "compiler"
    compiler.write_text(COMPILER.format(unknown=unknown), encoding="utf-8")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    problem, left_out = hatch_build._built(Path("native"), tmp_path / "library.so")
    return problem, left_out, (tmp_path / "asked").read_text(encoding="utf-8").splitlines()


def test_every_generation_has_a_unit_and_flags_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, left_out, asked = built(tmp_path, monkeypatch, "-none")
    assert (problem, left_out) == (None, [])
    assert (tmp_path / "library.so").exists()
    units = {path.stem for path in (Path(hatch_build.__file__).parent / "native" / "generations").iterdir()}
    assert units == set(hatch_build.GENERATIONS)
    for name, flags in hatch_build.GENERATIONS.items():
        (line,) = (line for line in asked if f"generations/{name}.cpp" in line)
        assert {word for word in line.split() if word.startswith("-m")} == set(flags)
    for name in hatch_build.COMMON:
        (line,) = (line for line in asked if f"native/{name}.cpp" in line)
        assert " -m" not in line
        assert f"GENERATIONS={' '.join(f'ONE({unit})' for unit in hatch_build.GENERATIONS)} " in line


def test_what_the_compiler_does_not_know_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, left_out, asked = built(tmp_path, monkeypatch, "-mamx-int8")
    assert problem is None
    (reason,) = left_out
    assert reason.startswith("without the amx kernels: ")
    assert "unrecognized command-line option '-mamx-int8'" in reason
    assert "ONE(avx512_bf16) " in next(line for line in asked if "dispatch.cpp" in line)
    assert not any("ONE(amx)" in line for line in asked)
    assert "amx.o" not in asked[-1]


def test_without_avx2_there_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, left_out, _ = built(tmp_path, monkeypatch, "-mavx2")
    assert problem is not None
    assert "could not compile them: unrecognized command-line option '-mavx2'" in problem
    assert left_out == []
