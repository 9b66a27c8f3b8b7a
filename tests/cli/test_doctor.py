"""`stcompile doctor`: what a bug report needs, on any machine."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path

import pytest

from stcompile import __version__
from stcompile.artifact.target import TARGETS
from stcompile.cli import doctor
from stcompile.kernels import cpu_features, native
from tests.cli.test_cli import Run, run

__all__ = ["run"]


def test_it_tells_what_there_is(run: Run) -> None:
    done = run("doctor", "--json")
    found = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert found["stcompile"] == __version__
    assert found["packages"]["onnxruntime"] == version("onnxruntime")
    assert "CPUExecutionProvider" in found["engines"]["onnxruntime"]
    assert found["cpu"]["usable"] >= 1
    assert found["memory_gb"]["machine"] > 0
    assert list(found["targets"]) == list(TARGETS)
    assert found["kernels"]["runs"] == native.generation()
    assert found["kernels"]["runs"] in [*found["kernels"]["available"], None]


def test_a_person_reads_the_same(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    done = run("doctor")
    assert (done.code, done.err) == (0, "")
    assert all(name in done.out for name in TARGETS)
    assert f"onnxruntime {version('onnxruntime')}" in done.out


def test_it_says_why_no_kernel_runs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, native.NONE)
    found = json.loads(run("doctor", "--json").out)
    assert found["kernels"]["runs"] is None
    assert found["kernels"]["refusals"] == ["STCOMPILE_KERNELS=none"]
    assert found["environment"]["STCOMPILE_KERNELS"] == "none"
    assert "none: STCOMPILE_KERNELS=none" in run("doctor").out


def test_a_system_that_tells_nothing_is_examined_too(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Plan9")
    monkeypatch.setattr(native, "_LIBRARY", tmp_path / "none.so")
    cpu_features._flags.cache_clear()

    def broken(*_: object) -> None:
        raise RuntimeError("half installed")

    monkeypatch.setattr(doctor, "require", broken)
    try:
        found = json.loads(run("doctor", "--json").out)
        assert run("doctor").code == 0
    finally:
        cpu_features._flags.cache_clear()
    assert found["cpu"]["features"] == []
    assert found["engines"] == {"onnxruntime": [], "openvino": []}
    assert found["kernels"]["runs"] is None
