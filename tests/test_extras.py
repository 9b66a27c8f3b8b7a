"""A dependency that is not there is one sentence with the pip line to run."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from stcompile import extras
from stcompile.errors import MissingExtraError
from stcompile.extras import require

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("module", "extra", "named"),
    [
        ("onnxruntime", None, "cpu"),
        ("onnxruntime", "cuda", "cuda"),
        ("torch", None, "compile"),
        ("huggingface_hub", None, "hub"),
        ("typer", None, "cli"),
    ],
)
def test_what_is_missing_names_its_extra(
    module: str, extra: str | None, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as caught:
        require(module, "Doing this", extra)
    assert str(caught.value) == (f"Doing this needs {module}, which is not installed: pip install 'stcompile[{named}]'")


@pytest.mark.parametrize(
    ("missing", "named"), [("safetensors", "compile"), ("rich.console", "cli"), ("regex._regex", "compile")]
)
def test_what_a_dependency_itself_misses_is_named(missing: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(importlib, "import_module", broken)
    package = missing.partition(".")[0]
    with pytest.raises(MissingExtraError, match=rf"needs {package}, .*stcompile\[{named}\]"):
        require("transformers", "Doing this")


def test_an_error_that_is_a_sentence_already_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise MissingExtraError("pip install this")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(MissingExtraError, match=r"^pip install this$"):
        require("torch", "Doing this")


def test_a_broken_installation_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise ImportError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(MissingExtraError, match="libcudart"):
        require("onnxruntime", "Doing this")


def test_what_is_there_is_imported() -> None:
    assert require("onnxruntime", "Doing this") is sys.modules["onnxruntime"]


def test_everything_that_is_asked_for_has_an_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(extras._EXTRA_OF.values()) <= project["optional-dependencies"].keys()


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_the_command_without_its_dependencies_is_one_sentence(module: str) -> None:
    script = f"import runpy, sys\nsys.modules[{module!r}] = None\nrunpy.run_module('stcompile', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"stcompile: The command line needs {module}, which is not installed: pip install 'stcompile[cli]'\n"
    )
