"""`stcompile rerank`: what it prints and writes, and one sentence for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import stcompile
from tests.cli.test_cli import Run, run  # noqa: F401 - the fixture
from tests.conftest import Compiled

QUERY, DOCUMENTS = "hello world", ["the quick brown fox", "hello", "a lazy dog in New York"]


@pytest.fixture(scope="module")
def reranker(compiled: Compiled) -> Path:
    return compiled("reranker_bert")


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    path = tmp_path / "documents.txt"
    path.write_text("\n".join(DOCUMENTS) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def expected(reranker: Path) -> list[dict[str, object]]:
    return stcompile.Reranker.load(reranker).rank(QUERY, DOCUMENTS, return_documents=True)


def test_the_best_come_first(run: Run, reranker: Path, documents: Path, expected: list[dict[str, object]]) -> None:  # noqa: F811
    done = run("rerank", reranker, documents, "--query", QUERY)
    assert done.code == 0
    places = [done.out.index(str(item["text"])) for item in expected]
    assert places == sorted(places)
    done = run("rerank", reranker, documents, "--query", QUERY, "--json", "--top-k", 2)
    assert [json.loads(line) for line in done.out.splitlines()] == expected[:2]


def test_documents_from_standard_input_into_a_file(
    run: Run,  # noqa: F811
    reranker: Path,
    tmp_path: Path,
    expected: list[dict[str, object]],
) -> None:
    lines = "".join(json.dumps({"body": text}) + "\n" for text in DOCUMENTS)
    output = tmp_path / "ranked.jsonl"
    done = run("rerank", reranker, "-q", QUERY, "--column", "body", "-o", output, stdin=lines)
    assert (done.code, done.out) == (0, "")
    assert [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()] == expected


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "pass --query: what the documents are to answer"),
        (["-q", "a", "-o", "x.npy"], "cannot tell the format of x.npy: name it .jsonl"),
        (["-q", "a", "-o", "x.jsonl", "--json"], "--json prints, and --output writes a file"),
        (["-q", "a", "--top-k", "0"], "top_k must be a whole number of at least 1"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    run: Run,  # noqa: F811
    reranker: Path,
    documents: Path,
    arguments: list[str],
    says: str,
) -> None:
    done = run("rerank", reranker, documents, *arguments)
    assert done.code == 2
    assert says in done.sentence


def test_verbs_take_their_own_kind(run: Run, reranker: Path, documents: Path, compiled: Compiled) -> None:  # noqa: F811
    done = run("rerank", compiled("pool_mean"), documents, "-q", "a")
    assert done.code == 2
    assert "is an encoder, not a reranker" in done.sentence
    done = run("encode", reranker, documents)
    assert done.code == 2
    assert "is a reranker, which makes no vectors: use `stcompile rerank`" in done.sentence


def test_where_nothing_can_be_written_nothing_is_opened(run: Run, documents: Path) -> None:  # noqa: F811
    done = run("rerank", "no-such-artifact", documents, "-q", "a", "-o", "nowhere/ranked.jsonl")
    assert done.code == 2
    assert "nowhere/ranked.jsonl cannot be written" in done.sentence
