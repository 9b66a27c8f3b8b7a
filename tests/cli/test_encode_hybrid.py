"""`stcompile encode`, `export` and `verify` of bge-m3: what they write, and one sentence for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import stcompile
from tests.cli.test_cli import Run, run  # noqa: F401 - the fixture
from tests.conftest import MODELS, Compiled
from tests.hybrid import ALL, CASE

TEXTS = ["hello world", "the quick brown fox!", "a lazy dog"]
LINES = "\n".join(TEXTS) + "\n"


@pytest.fixture(scope="module")
def artifact(compiled: Compiled) -> Path:
    return compiled(CASE, outputs=ALL)


@pytest.fixture(scope="module")
def encoder(artifact: Path) -> stcompile.HybridEncoder:
    return stcompile.HybridEncoder.load(artifact, threads=1)


def test_lines(run: Run, artifact: Path, encoder: stcompile.HybridEncoder) -> None:  # noqa: F811
    done = run("encode", artifact, stdin=LINES)
    assert done.code == 0
    expected = encoder.encode_hybrid(TEXTS)
    for place, row in enumerate(map(json.loads, done.out.splitlines())):
        assert list(row) == ["text", *ALL]
        np.testing.assert_allclose(row["dense"], expected.dense[place], atol=1e-6)
        assert row["sparse"]["indices"] == expected.sparse[place].indices.tolist()
        np.testing.assert_allclose(row["multi_vector"], expected.multi_vector[place], atol=1e-6)


def test_words(run: Run, artifact: Path, encoder: stcompile.HybridEncoder) -> None:  # noqa: F811
    done = run("encode", artifact, "--outputs", "sparse", "--token-weights", stdin=LINES)
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [list(row) for row in found] == [["text", "sparse"]] * 3
    names = encoder.token_weights(encoder.encode_hybrid(TEXTS).sparse)
    assert [list(row["sparse"]) for row in found] == [list(each) for each in names]


def test_one_file(run: Run, artifact: Path, encoder: stcompile.HybridEncoder, tmp_path: Path) -> None:  # noqa: F811
    assert run("encode", artifact, "-o", tmp_path / "out.npz", stdin=LINES).code == 0
    expected = encoder.encode_hybrid(TEXTS)
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_allclose(found["dense"], expected.dense, atol=1e-6)
        assert found["indices"].tolist() == expected.sparse.indices.tolist()
        assert found["indptr"].tolist() == expected.sparse.indptr.tolist()
        np.testing.assert_allclose(found["vectors"], np.concatenate(expected.multi_vector), atol=1e-6)


def test_dense_alone_takes_what_dense_vectors_take(run: Run, artifact: Path, tmp_path: Path) -> None:  # noqa: F811
    done = run("encode", artifact, "--outputs", "dense", "--truncate-dim", 4, "-o", tmp_path / "d.npy", stdin=LINES)
    assert done.code == 0
    assert np.load(tmp_path / "d.npy").shape == (3, 4)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--truncate-dim", 4],
            "--truncate-dim is of an encoder: leave it out, or ask for dense vectors alone (--outputs dense)",
        ),
        (["-o", "out.npy"], "out.npy is of an encoder: write JSONL"),
        (["--outputs", "dense,colbert"], "outputs must be some of dense, sparse, multi_vector"),
        (["--token-weights", "-o", "out.npz"], "--token-weights is JSONL"),
    ],
)
def test_what_is_wrong_is_one_sentence(arguments: list[object], says: str, run: Run, artifact: Path) -> None:  # noqa: F811
    done = run("encode", artifact, *arguments, stdin=LINES)
    assert done.code == 2
    assert says in " ".join(done.err.split())


def test_others_have_no_outputs(run: Run, compiled: Compiled) -> None:  # noqa: F811
    done = run("encode", compiled("static"), "--outputs", "dense", stdin=LINES)
    assert done.code == 2
    assert "this artifact is an encoder, and --outputs is of a hybrid encoder" in done.err


def test_verify_tells_of_all(run: Run, artifact: Path) -> None:  # noqa: F811
    done = run("verify", artifact, "--against", MODELS / CASE, "--json")
    assert done.code == 0
    assert [item["output"] for item in json.loads(done.out)["outputs"]] == ["sparse", "multi_vector"]


@pytest.mark.parametrize(
    ("model", "arguments", "says"),
    [
        ("pool_mean", ["--outputs", "dense,sparse"], "that takes sparse_linear.pt and colbert_linear.pt"),
        ("sparse_splade", ["--outputs", "dense,multi_vector"], "makes no sparse vectors or vectors of tokens beside"),
        (CASE, ["--outputs", "dense,sparse", "--target", "static"], "static embeddings are dense vectors alone"),
        (CASE, ["--outputs", "sparse"], "outputs must be sentence_embedding or dense, and besides"),
    ],
)
def test_what_an_export_cannot_do_is_one_sentence(
    model: str,
    arguments: list[object],
    says: str,
    run: Run,  # noqa: F811
    tmp_path: Path,
) -> None:
    done = run("export", MODELS / model, *arguments, "-o", tmp_path / "out")
    assert done.code == 2
    assert says in " ".join(done.err.split())
    assert not (tmp_path / "out").exists()
