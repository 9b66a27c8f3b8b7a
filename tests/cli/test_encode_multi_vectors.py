"""`stcompile encode` and `export` of multi-vector encoders: what they write, and one sentence for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import stcompile
from tests.cli.test_cli import Run, run  # noqa: F401 - the fixture
from tests.conftest import Compiled

TEXTS = ["hello world", "the quick brown fox!", "a lazy dog"]
LINES = "\n".join(TEXTS) + "\n"


@pytest.fixture(scope="module")
def artifact(compiled: Compiled) -> Path:
    return compiled("multi_vector_fixed")


@pytest.fixture(scope="module")
def encoder(artifact: Path) -> stcompile.MultiVectorEncoder:
    return stcompile.MultiVectorEncoder.load(artifact, threads=1)


@pytest.mark.parametrize("task", ["query", "document"])
def test_lines(task: str, run: Run, artifact: Path, encoder: stcompile.MultiVectorEncoder) -> None:  # noqa: F811
    done = run("encode", artifact, "--task", task, stdin=LINES)
    assert done.code == 0
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [row["text"] for row in found] == TEXTS
    for row, vectors in zip(found, encoder.encode(TEXTS, task=task), strict=True):
        np.testing.assert_allclose(row["embedding"], vectors, atol=1e-6)


def test_one_array_and_where_each_text_begins(
    run: Run,  # noqa: F811
    artifact: Path,
    encoder: stcompile.MultiVectorEncoder,
    tmp_path: Path,
) -> None:
    assert run("encode", artifact, "-o", tmp_path / "out.npz", stdin=LINES).code == 0
    with np.load(tmp_path / "out.npz") as found:
        expected = encoder.encode(TEXTS)
        assert found["offsets"].tolist() == np.cumsum([0, *map(len, expected)]).tolist()
        np.testing.assert_allclose(found["vectors"], np.concatenate(expected), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--truncate-dim", 4], "is a multi-vector encoder, and --truncate-dim is of an encoder"),
        (["--precision", "int8"], "--precision is of an encoder"),
        (
            ["--max-active-dims", 3, "--token-weights"],
            "--max-active-dims is of a sparse encoder, --token-weights is of a sparse encoder",
        ),
        (["-o", "out.npy"], "out.npy is of an encoder: write JSONL"),
    ],
)
def test_what_is_of_one_vector_is_refused(arguments: list[object], says: str, run: Run, artifact: Path) -> None:  # noqa: F811
    done = run("encode", artifact, *arguments, stdin=LINES)
    assert done.code == 2
    assert says in done.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--target", "static"], "static embeddings are one of a text"),
        (["--target", "onnx-int8", "--max-drop", 0.01], "max_drop and scored pairs are measured on one vector a text"),
    ],
)
def test_what_an_export_cannot_do_is_one_sentence(
    arguments: list[object],
    says: str,
    run: Run,  # noqa: F811
    tmp_path: Path,
) -> None:
    from tests.conftest import MODELS

    done = run("export", MODELS / "multi_vector_bert", *arguments, "-o", tmp_path / "out")
    assert done.code == 2
    assert says in " ".join(done.err.split())
    assert not (tmp_path / "out").exists()
