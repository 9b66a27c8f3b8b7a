"""`verify` writes reports, takes bounds from three places, and compares with an earlier artifact."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as xml

import pytest

from tests.cli.test_cli import Run, run  # noqa: F401
from tests.conftest import MODELS, Compiled


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("hello world\na dog\none more\nthe last one\n", "utf-8")
    return tmp_path / "texts.txt"


def test_reports_go_where_they_are_asked_for(run: Run, compiled: Compiled, texts: Path) -> None:  # noqa: F811
    artifact = compiled("pool_mean", "onnx-int8")
    asked = ["--report", "html=out.html", "--report", f"junit={texts.parent / 'out.xml'}", "--report", "markdown"]
    done = run("verify", artifact, "--against", MODELS / "pool_mean", "--texts", texts, *asked)
    assert done.code == 0
    assert done.out.startswith(r"### pool\_mean-onnx-int8 against pool\_mean: passed")
    assert (texts.parent / "out.html").read_text("utf-8").startswith("<!doctype html>")
    assert xml.parse(texts.parent / "out.xml").getroot().get("failures") == "0"


def test_a_failure_is_reported_and_exits_with_1(run: Run, compiled: Compiled, texts: Path) -> None:  # noqa: F811
    (texts.parent / "pyproject.toml").write_text("[tool.stcompile]\nmin-cosine = 1.0\n", "utf-8")
    artifact = compiled("pool_mean", "onnx-int8")
    asked = ["verify", artifact, "--against", MODELS / "pool_mean", "--texts", texts, "--report", "json"]
    done = run(*asked)
    assert done.code == 1
    assert json.loads(done.out)["passed"] is False
    assert run(*asked, "--min-cosine", "0.9").code == 0


def test_against_an_earlier_artifact(run: Run, compiled: Compiled, texts: Path) -> None:  # noqa: F811
    one, other = compiled("pool_mean"), compiled("pool_mean", "onnx-int8")
    done = run("verify", one, "--baseline", one, "--texts", texts, "--speed")
    assert done.code == 0
    assert "texts/s beside" in done.out
    done = run("verify", other, "--baseline", one, "--texts", texts)
    assert done.code == 1
    assert "is not within tolerance: min cosine" in done.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name a model with --against, or an artifact with --baseline"),
        (["--against", "x", "--baseline", "y"], "verify compares with one thing"),
        (["--against", "x", "--report", "pdf"], "unknown report 'pdf': choose one of html, json, junit, markdown"),
        (
            ["--against", "x", "--report", "html=nodir/x.html"],
            "nodir/x.html cannot be written (No such file or directory",
        ),
        (["--baseline", "x", "--report", "junit=."], ". cannot be written (Is a directory)"),
        (["--against", "x", "--report", "html="], "with a file as html=out.html"),
        (["--against", "x", "--report", "html", "--report", "json"], "one report goes to standard output"),
        (["--against", "x", "--report", "html", "--json"], "one report goes to standard output"),
        (["--against", "x", "--neighbour-overlap", "2"], "neighbour_overlap must be a number from 0 to 1, got 2.0"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    arguments: list[str],
    says: str,
    run: Run,  # noqa: F811
    compiled: Compiled,
    texts: Path,
) -> None:
    done = run("verify", compiled("pool_mean"), *arguments)
    assert done.code == 2
    assert says in " ".join(done.err.split())
