"""What each path answers is what sentence-transformers gives; what is wrong is a status and one sentence."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import numpy as np
import pytest

from stcompile.server.settings import Settings
from tests.conftest import load_case
from tests.server.conftest import CASES, Address, running

# Float32 rounding in batches of other sizes, on vectors of the size of their own.
ROUNDING = 5e-6


def texts_of(name: str) -> list[str]:
    return [text for text in load_case(CASES[name]).texts if isinstance(text, str)]


def assert_rows(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.array(found, np.float32), expected, atol=ROUNDING * max(1, np.abs(expected).max()))


def test_openai_embeddings(server: Address) -> None:
    case = load_case(CASES["embedder"])
    answer = server.ask("/v1/embeddings", {"model": "embedder", "input": case.texts, "encoding_format": "float"})
    assert answer.status == 200
    assert_rows([one["embedding"] for one in answer.json["data"]], case.expected())
    assert [one["index"] for one in answer.json["data"]] == [*range(len(case.texts))]
    assert answer.json["model"] == "embedder"
    assert answer.json["usage"]["prompt_tokens"] == answer.json["usage"]["total_tokens"] > len(case.texts)


def test_openai_base64_is_the_same(server: Address) -> None:
    rows = [
        server.ask("/v1/embeddings", {"input": ["a dog", "a cat"], "encoding_format": form}).json["data"]
        for form in ("float", "base64")
    ]
    plain = np.array([one["embedding"] for one in rows[0]], np.float32)
    packed = np.stack([np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in rows[1]])
    assert np.array_equal(plain, packed)


def test_dimensions_are_scaled_to_length_one(server: Address) -> None:
    whole = server.ask("/v1/embeddings", {"input": "a dog"}).json["data"][0]["embedding"]
    cut = server.ask("/v1/embeddings", {"input": "a dog", "dimensions": 8}).json["data"][0]["embedding"]
    first = np.array(whole[:8])
    assert_rows(cut, first / np.linalg.norm(first))


def test_usage_counts_the_tokens_that_run(server: Address, loaded: dict[str, Any]) -> None:
    texts = texts_of("embedder")
    before = loaded["embedder"].counted.tokens
    answer = server.ask("/v1/embeddings", {"input": [text + " once" for text in dict.fromkeys(texts)]})
    assert answer.json["usage"]["prompt_tokens"] == loaded["embedder"].counted.tokens - before


def test_a_role_takes_its_prompt_or_route(server: Address, loaded: dict[str, Any]) -> None:
    for role, encode in (("query", "encode_query"), ("document", "encode_document")):
        asked = {"model": "routed", "input": ["a dog"], "input_type": role}
        answer = server.ask("/v1/embeddings", asked)
        assert_rows(answer.json["data"][0]["embedding"], getattr(loaded["routed"], encode)("a dog"))
    refused = server.ask("/v1/embeddings", {"model": "routed", "input": ["a dog"]})
    assert refused.status == 422
    assert "this model needs a task" in refused.json["error"]["message"]


def test_embed(server: Address, loaded: dict[str, Any]) -> None:
    texts = texts_of("embedder")
    plain = server.ask("/embed", {"inputs": texts, "normalize": False})
    assert_rows(plain.json, load_case(CASES["embedder"]).expected())
    unit = np.array(server.ask("/embed", {"inputs": texts[0]}).json)
    assert unit.shape == (1, loaded["embedder"].get_embedding_dimension())
    assert np.linalg.norm(unit) == pytest.approx(1, abs=1e-6)
    assert server.ask("/", {"inputs": texts[0]}).json == unit.tolist()


def test_embed_sparse(server: Address, loaded: dict[str, Any]) -> None:
    texts = texts_of("sparse")
    answer = server.ask("/embed_sparse", {"inputs": texts}).json
    expected = loaded["sparse"].encode(texts)
    for row, vector in zip(answer, expected, strict=True):
        assert [one["index"] for one in row] == vector.indices.tolist()
        assert_rows([one["value"] for one in row], vector.values)


def test_embed_all(server: Address, loaded: dict[str, Any]) -> None:
    texts = texts_of("tokens")
    answer = server.ask("/embed_all", {"inputs": texts, "input_type": "query"}).json
    for rows, expected in zip(answer, loaded["tokens"].encode_query(texts), strict=True):
        assert_rows(rows, expected)


def test_rerank(server: Address, loaded: dict[str, Any]) -> None:
    query, *documents = texts_of("embedder")
    logits = loaded["reranker"].predict([(query, text) for text in documents], activation_fn="identity")
    order = np.argsort(-logits, kind="stable").tolist()
    raw = server.ask("/rerank", {"query": query, "texts": documents, "raw_scores": True, "return_text": True}).json
    assert [one["index"] for one in raw] == order
    assert [one["text"] for one in raw] == [documents[place] for place in order]
    assert_rows([one["score"] for one in raw], logits[order])
    for path in ("/v1/rerank", "/v2/rerank"):
        asked = {"model": "reranker", "query": query, "documents": documents, "top_n": 3, "return_documents": True}
        found = server.ask(path, asked).json
        assert [one["index"] for one in found["results"]] == order[:3]
        assert_rows([one["relevance_score"] for one in found["results"]], 1 / (1 + np.exp(-logits[order[:3]])))
        assert found["results"][0]["document"]["text"] == documents[order[0]]
    with_fields = {"query": query, "documents": [{"text": text} for text in documents]}
    assert [one["index"] for one in server.ask("/v1/rerank", with_fields).json["results"]] == order


def test_similarity_is_the_models_own(server: Address, loaded: dict[str, Any]) -> None:
    inputs = {"source_sentence": "a dog", "sentences": ["a cat", "a dog", ""]}
    encoder = loaded["embedder"]
    expected = encoder.similarity(encoder.encode(["a dog"]), encoder.encode(inputs["sentences"]))[0]
    for path in ("/similarity", "/"):
        assert_rows(server.ask(path, {"inputs": inputs}).json, expected)


def test_tokenize(server: Address) -> None:
    (tokens,) = server.ask("/tokenize", {"inputs": "hello world"}).json
    assert [one["special"] for one in tokens] == [True, *[False] * (len(tokens) - 2), True]
    assert "hello world"[tokens[1]["start"] : tokens[1]["stop"]] == "hello"
    assert tokens[0]["start"] is None
    (bare,) = server.ask("/tokenize", {"inputs": "hello world", "add_special_tokens": False}).json
    assert bare == tokens[1:-1]


def test_pages(server: Address) -> None:
    info = server.ask("/info").json
    assert (info["model_id"], [one["model_id"] for one in info["models"]]) == ("embedder", [*CASES])
    assert info["models"][0]["parity"]["passed"] is True
    assert server.ask("/health").json == {"status": "ok"}
    assert [one["id"] for one in server.ask("/v1/models").json["data"]] == [*CASES]
    for path in ("/", "/docs"):
        page = server.ask(path)
        assert page.headers["content-type"].startswith("text/html")
        assert b"http" not in page.body.replace(b"https://", b"")
    assert b"/v1/embeddings" in server.ask("/openapi.json").body


def test_metrics_count(server: Address) -> None:
    def counted(line: bytes) -> float:
        found = [row for row in server.ask("/metrics").body.splitlines() if row.startswith(line)]
        return float(found[0].split()[-1]) if found else 0.0

    line = b'stcompile_texts_total{model="embedder"}'
    before = counted(line)
    server.ask("/embed", {"inputs": ["a dog", "a cat"]})
    server.ask("/no-such-path")
    assert counted(line) == before + 2
    assert counted(b'stcompile_requests_total{path="other",status="404"}') >= 1


def test_null_is_as_left_out(server: Address) -> None:
    """Clients send fields that nobody set: openai's `encoding_format=None`, Cohere's `max_tokens_per_doc`."""
    for path, body, left_out in (
        ("/v1/embeddings", {"input": "a"}, ("model", "dimensions", "encoding_format", "input_type", "prompt_name")),
        ("/embed", {"inputs": "a"}, ("normalize", "dimensions", "truncate", "truncation_direction", "prompt_name")),
        ("/rerank", {"query": "a", "texts": ["b"]}, ("raw_scores", "return_text", "truncate", "truncation_direction")),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}, ("parameters", "truncate")),
        ("/tokenize", {"inputs": "a"}, ("add_special_tokens", "prompt_name")),
    ):
        assert server.ask(path, {**body, **dict.fromkeys(left_out)}).json == server.ask(path, body).json
    body = {"query": "a", "documents": ["b"]}
    fields = ("model", "top_n", "return_documents", "rank_fields", "max_tokens_per_doc", "max_chunks_per_doc")
    found = server.ask("/v1/rerank", {**body, **dict.fromkeys(fields)})
    assert found.json["results"] == server.ask("/v1/rerank", {**body, "max_tokens_per_doc": 4096}).json["results"]


def test_similarity_takes_its_parameters(server: Address) -> None:
    inputs = {"source_sentence": LONG, "sentences": ["a dog"]}
    refused = server.ask("/similarity", {"inputs": inputs, "parameters": {"truncate": False}})
    assert refused.status == 413
    assert refused.json["error_type"] == "Validation"


def test_a_path_that_is_not_there_has_the_errors_of_all(server: Address) -> None:
    told = server.ask("/v1/chat/completions", {}).json
    assert told["error"]["message"] == told["message"] == told["detail"]
    assert told["error"]["code"] == "not_found"
    assert server.ask("/embed", method="PUT").headers["allow"] == "POST"


def test_a_compressed_body_is_named(server: Address) -> None:
    body = gzip.compress(json.dumps({"inputs": "a"}).encode())
    refused = server.ask("/embed", body, headers={"content-encoding": "gzip"})
    assert refused.status == 415
    assert "send JSON as it is" in refused.json["error"]


LONG = "a dog " * 200
ALIKE = {"inputs": {"source_sentence": "a", "sentences": ["b"]}}


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/v1/embeddings", b"{", 422, "Invalid JSON"),
        ("/v1/embeddings", b"\xff\xfe", 422, "Invalid JSON"),
        ("/v1/embeddings", b"", 422, "the request has no body: send JSON"),
        ("/v1/embeddings", {}, 422, "input: Field required"),
        ("/v1/embeddings", {"input": []}, 422, "input"),
        ("/v1/embeddings", {"input": [1, 2]}, 422, "token ids are not taken"),
        ("/v1/embeddings", {"input": [[1, 2]]}, 422, "token ids are not taken"),
        ("/v1/embeddings", {"input": []}, 422, "input: it is an empty list: send at least one text"),
        ("/v1/embeddings", {"input": ["a", None]}, 422, "input: item 1 is null, not text: leave it out"),
        ("/v1/embeddings", {"input": ["a", 1.5]}, 422, "input: item 1 is a number, not text"),
        ("/v1/embeddings", {"input": None}, 422, "input: it is null: send a text, or a list of texts"),
        ("/v1/embeddings", {"input": {"a": 1}}, 422, "input: it is an object"),
        ("/v1/embeddings", {"input": [None]}, 422, "input"),
        ("/v1/embeddings", {"input": "a", "dimensions": 0}, 422, "dimensions"),
        ("/v1/embeddings", {"input": "a", "dimensions": 999}, 422, "dimensions must be from 1 to 32"),
        ("/v1/embeddings", {"input": "a", "encoding_format": "hex"}, 422, "encoding_format"),
        ("/v1/embeddings", {"input": "a", "prompt_name": "no"}, 422, "unknown prompt 'no'"),
        ("/v1/embeddings", {"input": "a", "model": "no"}, 404, "there is no model 'no': this server has embedder"),
        ("/v1/embeddings", {"input": "a", "model": "reranker"}, 422, "reranker cannot embed: it can rerank"),
        ("/v1/embeddings", {"input": ["a"] * 2049}, 413, "a request may have 2048 texts, and this one has 2049"),
        ("/embed", {"inputs": LONG, "truncate": False}, 413, "has more than the 64 tokens that embedder takes"),
        ("/embed", {"inputs": "a", "truncation_direction": "Left"}, 422, "compiled to be cut on the right"),
        ("/", {"inputs": 3}, 422, "inputs"),
        ("/", {"query": "a"}, 422, "texts: Field required"),
        ("/rerank", {"query": "a", "texts": []}, 422, "texts"),
        ("/v1/rerank", {"query": "a", "documents": [1]}, 422, "documents"),
        ("/v1/rerank", {"query": "a", "documents": []}, 422, "documents: it is an empty list"),
        ("/v1/rerank", {"query": "a", "documents": "b"}, 422, "documents: it is a text: send a list of texts"),
        ("/v1/rerank", {"query": "a", "documents": ["b", None]}, 422, "documents: item 1 is null"),
        ("/v1/rerank", {"query": "a", "documents": [{"title": "b"}]}, 422, "item 0 is an object without a text"),
        ("/v1/rerank", {"query": "a", "documents": ["b"], "rank_fields": ["title"]}, 422, "rank_fields: the text"),
        ("/v1/rerank", {"query": "a", "documents": ["b"], "max_chunks_per_doc": 2}, 422, "max_chunks_per_doc: a"),
        ("/v2/rerank", {"query": "a", "documents": ["b"], "max_tokens_per_doc": 9}, 422, "to take 64 tokens: leave it"),
        ("/similarity", {**ALIKE, "parameters": {"prompt_name": "no"}}, 422, "unknown prompt 'no'"),
        ("/", {**ALIKE, "parameters": {"truncation_direction": "Left"}}, 422, "compiled to be cut on the right"),
        ("/tokenize", {"inputs": {}}, 422, "inputs"),
        ("/embeddings", {"input": "a"}, 404, "there is no such path here: this server has /, /docs, /embed"),
        ("/health", {}, 405, "POST is not what this path takes"),
    ],
)
def test_what_is_wrong_is_one_sentence(server: Address, path: str, body: Any, status: int, says: str) -> None:
    answer = server.ask(path, body)
    assert answer.status == status
    told = answer.json
    error = told.get("error", told.get("message"))
    assert says in (error["message"] if isinstance(error, dict) else error)
    # The texts of a request are nobody else's business.
    assert LONG not in json.dumps(told)


def test_what_no_model_can_is_said(loaded: dict[str, Any]) -> None:
    with running({"embedder": loaded["embedder"]}, Settings(logs=False)) as server:
        for path, body in (("/rerank", {"query": "a", "texts": ["b"]}), ("/embed_sparse", {"inputs": "a"})):
            answer = server.ask(path, body)
            assert answer.status == 424
            assert "start it with one that is exported for it" in answer.json["error"]
