"""What the build compiles, with a compiler that only says what it was asked: no unit is compiled in earnest."""

from __future__ import annotations

from pathlib import Path

import pytest

import hatch_build

# As wheels are named.
TARGETS = {
    "linux_x86_64": hatch_build.X86_64,
    "manylinux_2_28_aarch64": hatch_build.ARM64,
    "macosx_11_0_arm64": hatch_build.ARM64,
    "win_amd64": hatch_build.X86_64,
}

COMPILER = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/asked"
case " $* " in *" {unknown} "*) echo "unrecognized command-line option '{unknown}'" >&2; exit 1;; esac
while [ "$1" != -o ]; do shift; done
touch "$2"
"""


def built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unknown: str, target: str = "linux_x86_64"
) -> tuple[str | None, list[str], list[str]]:
    """What keeps the library from being built, what is left out, and what the compiler was asked."""
    (tmp_path / hatch_build.PACKAGE).mkdir(parents=True)
    compiler = tmp_path / "compiler"
    compiler.write_text(COMPILER.format(unknown=unknown), encoding="utf-8")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", f"{compiler} -target {target}")
    library, problem, left_out = hatch_build._built(tmp_path, target)
    assert (tmp_path / library).exists() is (problem is None)
    return problem, left_out, (tmp_path / "asked").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("target", TARGETS)
def test_every_generation_has_a_unit_and_flags_of_its_own(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, left_out, asked = built(tmp_path, monkeypatch, "-none", target)
    assert (problem, left_out) == (None, [])
    assert all(line.startswith(f"-target {target} ") for line in asked)
    generations = TARGETS[target]
    for name, flags in generations.items():
        (line,) = (line for line in asked if f"generations/{name}.cpp" in line)
        assert {word for word in line.split() if word.startswith("-m")} == set(flags)
    for name in hatch_build.COMMON:
        (line,) = (line for line in asked if f"native/{name}.cpp" in line)
        assert " -m" not in line
        assert f"GENERATIONS={' '.join(f'ONE({unit})' for unit in generations)} " in line


def test_every_unit_is_of_one_kind_of_cpu() -> None:
    units = sorted(path.stem for path in (Path(hatch_build.__file__).parent / "native" / "generations").iterdir())
    assert units == sorted([*hatch_build.X86_64, *hatch_build.ARM64])


def test_what_the_compiler_does_not_know_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, left_out, asked = built(tmp_path, monkeypatch, "-mamx-int8")
    assert problem is None
    (reason,) = left_out
    assert reason.startswith("without the amx kernels: ")
    assert "unrecognized command-line option '-mamx-int8'" in reason
    assert "ONE(avx512_bf16) " in next(line for line in asked if "dispatch.cpp" in line)
    assert not any("ONE(amx)" in line for line in asked)
    assert "amx.o" not in asked[-1]


def test_without_the_narrowest_there_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, left_out, _ = built(tmp_path, monkeypatch, "-mavx2")
    assert problem is not None
    assert "could not compile them: unrecognized command-line option '-mavx2'" in problem
    assert left_out == []


@pytest.mark.parametrize("target", ["", "macosx_11_0_x86_64", "win_arm64", "musllinux_1_2_x86_64", "linux_riscv64"])
def test_other_platforms_have_none(target: str, tmp_path: Path) -> None:
    _, problem, _ = hatch_build._built(tmp_path, target)
    assert problem == "they are for x86-64 (Linux, Windows) and ARM64 (Linux, macOS)"
