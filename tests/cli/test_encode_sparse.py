"""`stcompile encode` and `export` of sparse encoders: what they write, and one sentence for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

import stcompile
from tests.cli.test_cli import Run, run  # noqa: F401 - the fixture
from tests.conftest import Compiled

TEXTS = ["hello world", "the quick brown fox", "a lazy dog"]
LINES = "\n".join(TEXTS) + "\n"


@pytest.fixture(scope="module")
def splade(compiled: Compiled) -> Path:
    return compiled("sparse_splade")


@pytest.fixture(scope="module")
def encoder(splade: Path) -> stcompile.SparseEncoder:
    return stcompile.SparseEncoder.load(splade, threads=1)


def test_lines_of_positions_and_values(run: Run, splade: Path, encoder: Any) -> None:  # noqa: F811
    done = run("encode", splade, "--max-active-dims", 4, stdin=LINES)
    assert done.code == 0
    found = [json.loads(line) for line in done.out.splitlines()]
    vectors = encoder.encode(TEXTS, max_active_dims=4)
    assert [row["text"] for row in found] == TEXTS
    assert [row["embedding"]["indices"] for row in found] == [vector.indices.tolist() for vector in vectors]
    np.testing.assert_allclose([row["embedding"]["values"] for row in found], [v.values for v in vectors], rtol=1e-5)


def test_lines_of_tokens_and_weights(run: Run, splade: Path, encoder: Any, tmp_path: Path) -> None:  # noqa: F811
    done = run("encode", splade, "--token-weights", "-o", tmp_path / "out.jsonl", stdin=LINES)
    assert (done.code, done.out) == (0, "")
    found = [json.loads(line)["embedding"] for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    for row, expected in zip(found, encoder.token_weights(encoder.encode(TEXTS)), strict=True):
        assert row == pytest.approx(expected, rel=1e-5)


def test_a_file_that_scipy_reads(run: Run, splade: Path, encoder: Any, tmp_path: Path) -> None:  # noqa: F811
    assert run("encode", splade, "-o", tmp_path / "out.npz", stdin=LINES).code == 0
    found = scipy.sparse.load_npz(tmp_path / "out.npz")
    assert found.shape == (3, 341)
    np.testing.assert_allclose(found.toarray(), encoder.encode(TEXTS).toarray(), atol=1e-5)


@pytest.mark.parametrize(
    ("case", "arguments", "says"),
    [
        (
            "sparse_splade",
            ["--normalize"],
            "is a sparse encoder, and --normalize is of an encoder or a multi-vector encoder: leave it out",
        ),
        (
            "sparse_splade",
            ["--precision", "int8", "--truncate-dim", "3"],
            "and --truncate-dim is of an encoder, --precision is of an encoder: leave them out",
        ),
        ("sparse_splade", ["-o", "x.npy"], "and x.npy is of an encoder: write JSONL"),
        ("sparse_splade", ["--max-active-dims", "0"], "max_active_dims must be"),
        ("sparse_splade", ["--token-weights", "-o", "x.npz"], "--token-weights is JSONL, and x.npz is not"),
        (
            "sparse_csr",
            ["--token-weights"],
            "token_weights names tokens, and the dimensions of this model are learned features",
        ),
        (
            "pool_mean",
            ["--token-weights"],
            "is an encoder, and --token-weights is of a sparse encoder or a hybrid encoder",
        ),
        (
            "pool_mean",
            ["-o", "x.npz"],
            "x.npz is of a sparse encoder or a multi-vector encoder or a hybrid encoder: write JSONL",
        ),
        ("pool_mean", ["--max-active-dims", "3"], "and --max-active-dims is of a sparse encoder"),
        ("reranker_bert", [], "is a reranker, which makes no vectors: use `stcompile rerank`"),
    ],
)
def test_what_is_of_another_kind_is_one_sentence(
    case: str,
    arguments: list[str],
    says: str,
    run: Run,  # noqa: F811
    compiled: Compiled,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("encode", compiled(case), *arguments, stdin=LINES)
    assert done.code == 2
    assert says in done.sentence
    assert not list(tmp_path.glob("x.*"))


def test_what_is_proved_is_shown(run: Run, tmp_path: Path) -> None:  # noqa: F811
    texts = tmp_path / "texts.txt"
    texts.write_text(LINES, encoding="utf-8")
    from tests.conftest import MODELS

    done = run("export", MODELS / "sparse_static", "-t", "onnx-fp32", "-o", tmp_path / "out", "--texts", texts)
    assert done.code == 0, done.err
    assert "active in both" in done.out
    shown = run("inspect", tmp_path / "out")
    assert "sparse encoder" in shown.out
