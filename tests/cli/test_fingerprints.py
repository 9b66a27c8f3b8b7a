"""Fingerprints and self-tests on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import stcompile
from stcompile.artifact.folder import read_manifest, write_manifest
from stcompile.artifact.self_test import SELF_TEST_NAME
from tests.cli.test_cli import Run, run  # noqa: F401 - the fixture
from tests.conftest import GOLDEN, Compiled


@pytest.fixture
def artifact(compiled: Compiled) -> Path:
    return compiled("full_stack")


def test_inspect_and_doctor_tell_the_fingerprint(run: Run, artifact: Path) -> None:  # noqa: F811
    fingerprint = stcompile.load(artifact).fingerprint
    assert json.loads(run("inspect", artifact, "--json").out)["fingerprint"] == fingerprint
    assert str(fingerprint) in run("inspect", artifact).out
    done = run("doctor", artifact, "--json")
    found = json.loads(done.out)["artifact"]
    assert (done.code, found["fingerprint"], found["kind"]) == (0, fingerprint, "encoder")
    assert found["least_cosine"] > 0.999
    assert "passed, least cosine" in run("doctor", artifact).out


def test_a_self_test_that_fails_is_exit_code_1(run: Run, artifact: Path, tmp_path: Path) -> None:  # noqa: F811
    folder = Path(shutil.copytree(artifact, tmp_path / "artifact"))
    path = folder / SELF_TEST_NAME
    body = json.loads(path.read_text("utf-8"))
    body["golden"][0]["values"][0] += 1
    path.write_text(json.dumps(body), "utf-8")
    write_manifest(folder, read_manifest(folder))
    done = run("doctor", folder)
    assert done.code == 1
    assert "failed its self-test on this machine" in done.err


def test_what_has_none_is_told_so(run: Run) -> None:  # noqa: F811
    folder = GOLDEN / "artifacts" / "v8" / "clip_text-onnx-int8"
    assert "none: exported before there were any" in run("inspect", folder).out
    done = run("doctor", folder)
    assert (done.code, "it was exported before there was one" in done.err) == (2, True)


@pytest.mark.parametrize("files", [False, True])
def test_encode_refuses_another_fingerprint(
    files: bool,
    run: Run,  # noqa: F811
    artifact: Path,
    tmp_path: Path,
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("hello world\n", "utf-8")
    given = ["--input", texts, "--output", tmp_path / "out"] if files else [texts]
    fingerprint = str(stcompile.load(artifact).fingerprint)
    assert run("encode", artifact, *given, "--expect-fingerprint", fingerprint).code == 0
    done = run("encode", artifact, *given, "--expect-fingerprint", fingerprint.replace("fp32", "int8"))
    assert (done.code, "it was compiled to fp32, not int8" in done.err) == (2, True)
