"""`stcompile encode --input` as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bulk.files import jsonl, rows_of, summary_of
from tests.conftest import Compiled

CASE = "static_normalize"


def typed(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stcompile", "encode", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_counts_for_people_and_for_machines(tmp_path: Path, compiled: Compiled) -> None:
    file = jsonl(tmp_path / "a.jsonl", [{"body": "a", "n": 1}, {"body": None, "n": 2}])
    words = (compiled(CASE), "--input", file, "--column", "body", "--id", "n", "-o", tmp_path / "out")
    first = typed(*words)
    assert first.returncode == 0, first.stderr
    assert [line.split() for line in first.stdout.splitlines()[1:4]] == [
        ["rows", "2"],
        ["written", "1"],
        ["rejected", "1"],
    ]
    assert "_rejects.jsonl" in first.stdout
    assert rows_of(tmp_path / "out")["n"].to_pylist() == [1]
    again = json.loads(typed(*words, "--json").stdout)
    assert {name: again[name] for name in summary_of(tmp_path / "out")} == summary_of(tmp_path / "out")


def test_a_file_that_cannot_be_read_is_told_by_the_exit_code(tmp_path: Path, compiled: Compiled) -> None:
    (tmp_path / "a.parquet").write_bytes(b"nothing")
    jsonl(tmp_path / "b.jsonl", [{"text": "a"}])
    done = typed(compiled(CASE), "--input", tmp_path / "*.*", "-o", tmp_path / "out")
    assert done.returncode == 1
    assert "1 of the files could not be read" in done.stderr
    assert rows_of(tmp_path / "out").num_rows == 1


def test_a_job_without_a_single_text_is_told_by_the_exit_code(tmp_path: Path, compiled: Compiled) -> None:
    """One JSON array where an object a line was meant, for one."""
    (tmp_path / "a.jsonl").write_text('[{"text": "a"},\n{"text": "b"}]\n')
    for _ in range(2):
        done = typed(compiled(CASE), "--input", tmp_path / "a.jsonl", "-o", tmp_path / "out")
        assert done.returncode == 1
        assert "none of the rows has a text that can be encoded" in done.stderr
    (tmp_path / "empty.jsonl").write_text("")
    assert typed(compiled(CASE), "--input", tmp_path / "empty.jsonl", "-o", tmp_path / "none").returncode == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--id", "n"), "--id belongs to files: name them with --input"),
        (("--input", "a.jsonl"), "--input names the texts and --output a folder"),
        (("--input", "a.jsonl", "-o", "out", "--workers", "many"), "'many' is no number of workers"),
        (("--input", "a.jsonl", "-o", "out", "--engine", "spark"), "unknown engine 'spark': choose one of local, ray"),
        (("--input", "a.jsonl", "-o", "out", "--workers", "1:4"), "are Ray's"),
    ],
)
def test_what_does_not_go_together(words: tuple[str, ...], sentence: str, compiled: Compiled) -> None:
    done = typed(compiled(CASE), *words)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_nothing_of_torch_is_imported(tmp_path: Path, compiled: Compiled) -> None:
    file = jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    code = (
        "import sys\nfrom stcompile.bulk.job import encode_files\n"
        f"encode_files({str(compiled(CASE))!r}, [{str(file)!r}], {str(tmp_path / 'out')!r})\n"
        "print([name for name in ('torch', 'transformers', 'onnx', 'sentence_transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", ["pyarrow", "fsspec"])
def test_a_package_that_is_missing_is_one_sentence(package: str, tmp_path: Path, compiled: Compiled) -> None:
    file = jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    words = ["stcompile", "encode", str(compiled(CASE)), "--input", str(file), "-o", str(tmp_path / "out")]
    script = (
        f"import runpy, sys\nsys.modules[{package!r}] = None\nsys.argv = {words!r}\n"
        "runpy.run_module('stcompile', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        f"stcompile: Encoding files needs {package}, which is not installed: pip install 'stcompile[bulk]'\n"
    )


def test_a_job_that_is_refused_leaves_nothing(tmp_path: Path, compiled: Compiled) -> None:
    file = jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    words = (compiled(CASE), "--input", file, "--id", "nope", "-o")
    (tmp_path / "empty").mkdir()
    for output in ("new/out", "empty"):
        done = typed(*words, tmp_path / output)
        assert done.returncode == 2
        assert "nope" in done.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.jsonl", "empty"]
    # What a job has put there stays, refused or not.
    assert typed(compiled(CASE), "--input", file, "-o", tmp_path / "out").returncode == 0
    before = sorted(path for path in (tmp_path / "out").rglob("*"))
    assert typed(*words, tmp_path / "out").returncode == 2
    assert sorted(path for path in (tmp_path / "out").rglob("*")) == before
