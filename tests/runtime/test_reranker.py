"""`Reranker`: what it is called with, what it gives, and what it refuses."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import stcompile
from stcompile.errors import ArtifactError, InputError, StcompileError
from tests.conftest import Compiled, load_case

CASE, CLASSES = load_case("reranker_bert"), load_case("reranker_bert_classes")
QUERY, DOCUMENTS = "hello world", ["the quick brown fox", "", "hello", "a lazy dog in New York", "hello"]


@pytest.fixture(scope="module")
def reranker(compiled: Compiled) -> stcompile.Reranker:
    return stcompile.Reranker.load(compiled(CASE.name), threads=1)


@pytest.fixture(scope="module")
def classifier(compiled: Compiled) -> stcompile.Reranker:
    return stcompile.Reranker.load(compiled(CLASSES.name), threads=1)


def test_load_gives_what_the_artifact_is(compiled: Compiled) -> None:
    assert type(stcompile.load(compiled(CASE.name), threads=1)) is stcompile.Reranker
    assert type(stcompile.load(compiled("pool_mean"), threads=1)) is stcompile.Encoder


def test_what_is_of_another_kind_is_refused_by_name(compiled: Compiled) -> None:
    with pytest.raises(ArtifactError, match=r"is a reranker, not an encoder: stcompile.load gives a Reranker"):
        stcompile.Encoder.load(compiled(CASE.name))
    with pytest.raises(ArtifactError, match=r"is an encoder, not a reranker: stcompile.load gives an Encoder"):
        stcompile.Reranker.load(compiled("pool_mean"))


def test_async_encoder_takes_no_reranker(reranker: stcompile.Reranker) -> None:
    with pytest.raises(InputError, match="AsyncEncoder collects the texts of an Encoder, got Reranker"):
        stcompile.AsyncEncoder(reranker)  # type: ignore[arg-type]  # what is refused


@pytest.mark.parametrize(
    "given",
    [
        lambda pairs: [tuple(pair) for pair in pairs],
        np.array,
        lambda pairs: np.array(pairs, dtype=object),
        lambda pairs: (pair for pair in pairs),
        tuple,
    ],
)
def test_pairs_may_come_in_any_form(given: Callable[[Any], Any], reranker: stcompile.Reranker) -> None:
    # Without what a numpy array of texts would lose: a zero at the end.
    pairs = [pair for pair in CASE.texts if not any("\0" in text for text in pair)]
    assert np.array_equal(reranker.predict(given(pairs)), reranker.predict(pairs))


def test_one_pair_and_one_text(reranker: stcompile.Reranker) -> None:
    """A list whose first item is no list is one pair, as sentence-transformers reads it."""
    expected = reranker.predict([("hello", "world")])
    for pair in (["hello", "world"], ("hello", "world"), np.array(["hello", "world"])):
        found = reranker.predict(pair)
        assert found.shape == ()
        assert found == expected[0]
    assert reranker.predict("hello").shape == ()
    assert reranker.predict("hello") != reranker.predict(("hello", ""))


def test_no_pair(reranker: stcompile.Reranker) -> None:
    found = reranker.predict([])
    assert (found.shape, found.dtype) == ((0,), np.float64)
    assert reranker.predict([], convert_to_numpy=False) == []
    assert reranker.rank("a", []) == []
    with pytest.raises(InputError, match="unknown activation_fn"):
        reranker.predict([], activation_fn="softplus")


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ([["a", "b", "c"]], "item 0 has 3 parts, and a pair has two texts"),
        (["a", "b", "c"], "item 0 has 3 parts"),
        (["a"], "item 0 has 1 parts"),
        ([["a", None]], "item 0 is a pair whose second text is NoneType, not text: a missing value has no vector"),
        ([("a", "b"), (b"a", "b")], "item 1 is a pair whose first text is bytes, not text: encode takes strings"),
        ([("a", float("nan"))], "item 0 is a pair whose second text is float, not text: a missing value"),
        ([[None, None]], "item 0 is list, not text"),
        ([("a", "b"), None], "item 1 is NoneType, not text: a missing value has no vector"),
        (None, "predict takes a text or a list of texts, got NoneType"),
        ({"a", "b"}, "predict takes texts in an order, which a set has none of"),
        (np.zeros((2, 3)), r"predict takes arrays of pairs \(n, 2\) or one pair"),
        ([("a", "\ud800")], "half of a surrogate pair"),
    ],
)
def test_what_is_no_pair_is_one_sentence(inputs: Any, says: str, reranker: stcompile.Reranker) -> None:
    with pytest.raises(InputError, match=says):
        reranker.predict(inputs)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"prompt_name": "absent"}, "unknown prompt 'absent'"),
        ({"prompt": 3}, "prompt must be text"),
        ({"activation_fn": "softplus"}, "unknown activation_fn 'softplus': choose identity or sigmoid"),
        ({"activation_fn": 3}, "activation_fn must be a function"),
        ({"activation_fn": lambda scores: scores[:1]}, r"made \(1, 1\) of scores \(2, 1\)"),
        ({"activation_fn": lambda scores: scores.absent}, "activation_fn fails on float32 scores .AttributeError"),
        ({"pool": object()}, "pool and chunk_size are about processes"),
        ({"device": "cuda"}, "this artifact computes on cpu, not on cuda"),
    ],
)
def test_bad_options_are_one_sentence(options: dict[str, Any], says: str, reranker: stcompile.Reranker) -> None:
    with pytest.raises(InputError, match=says):
        reranker.predict([("a", "b"), ("c", "d")], **options)


class _OwnTanh(torch.nn.Module):
    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.tanh()


def test_an_activation_is_a_name_a_function_or_torchs(reranker: stcompile.Reranker) -> None:
    pairs = CASE.texts[:8]
    logits = reranker.predict(pairs, activation_fn="identity")
    assert np.abs(logits - CASE.expected("logits")[:8]).max() < 1e-5
    asked: list[Any] = [torch.nn.Tanh(), _OwnTanh(), torch.tanh, np.tanh]
    for activation in asked:
        assert np.allclose(reranker.predict(pairs, activation_fn=activation), np.tanh(logits), atol=1e-6)
    assert np.allclose(reranker.predict(pairs, activation_fn="sigmoid"), reranker.predict(pairs), atol=1e-6)
    # That of a call does not stay.
    assert np.abs(reranker.predict(pairs) - CASE.expected()[:8]).max() < 1e-5


def test_tensors_and_lists(reranker: stcompile.Reranker) -> None:
    pairs = CASE.texts[:3]
    expected = reranker.predict(pairs)
    tensor = reranker.predict(pairs, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    assert np.array_equal(tensor.numpy(), expected)
    assert reranker.predict(pairs, convert_to_numpy=False) == list(expected)


def test_documents_by_their_score(reranker: stcompile.Reranker) -> None:
    scores = reranker.predict([(QUERY, text) for text in DOCUMENTS])
    ranked = reranker.rank(QUERY, DOCUMENTS, return_documents=True)
    assert [item["score"] for item in ranked] == sorted(scores.tolist(), reverse=True)
    assert all(item["score"] == scores[item["corpus_id"]] for item in ranked)
    assert all(item["text"] == DOCUMENTS[item["corpus_id"]] for item in ranked)
    # Equal scores keep the order of the documents.
    places = [item["corpus_id"] for item in ranked]
    assert places.index(2) + 1 == places.index(4)
    assert reranker.rank(QUERY, DOCUMENTS, top_k=2) == [
        {name: item[name] for name in ("corpus_id", "score")} for item in ranked[:2]
    ]
    assert len(reranker.rank(QUERY, DOCUMENTS, top_k=99)) == len(DOCUMENTS)
    assert reranker.rank(QUERY, tuple(DOCUMENTS), prompt="a ")[0]["score"] != ranked[0]["score"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((["a"], ["b"]), "rank takes one query, a text, got list"),
        (("a", "b"), "rank takes a list of documents, got str"),
        (("a", 3), "rank takes a list of documents, got int"),
        (("a", ["b", None]), "document 1 is NoneType, not text"),
        (("a", ["b"], 0), "top_k must be a whole number of at least 1"),
    ],
)
def test_what_cannot_be_ranked_is_one_sentence(
    arguments: tuple[Any, ...], says: str, reranker: stcompile.Reranker
) -> None:
    with pytest.raises(InputError, match=says):
        reranker.rank(*arguments)


def test_of_several_labels_rank_asks_which(classifier: stcompile.Reranker) -> None:
    assert classifier.num_labels == 3
    with pytest.raises(InputError, match=r"gives a pair 3 scores: pass label= to say which to rank by \(0 to 2\)"):
        classifier.rank(QUERY, DOCUMENTS)
    for label in (3, -1, True, "1"):
        with pytest.raises(InputError, match="label must be a whole number from 0 to 2"):
            classifier.rank(QUERY, DOCUMENTS, label=label)  # type: ignore[arg-type]  # what is refused
    scores = classifier.predict([(QUERY, text) for text in DOCUMENTS])
    assert scores.shape == (len(DOCUMENTS), 3)
    ranked = classifier.rank(QUERY, DOCUMENTS, label=1)
    assert [item["score"] for item in ranked] == sorted(scores[:, 1].tolist(), reverse=True)


def test_a_score_is_its_pairs_own(reranker: stcompile.Reranker) -> None:
    alone = reranker.predict(CASE.texts, batch_size=1, activation_fn="identity")
    together = reranker.predict(CASE.texts, batch_size=len(CASE.texts), activation_fn="identity")
    assert np.abs(alone - together).max() <= 1e-5 * alone.std()


def test_it_is_pickled_shared_and_closed(compiled: Compiled) -> None:
    with stcompile.Reranker.load(compiled(CASE.name), threads=1) as reranker:
        expected = reranker.predict(CASE.texts)
        assert np.array_equal(pickle.loads(pickle.dumps(reranker)).predict(CASE.texts), expected)
        assert np.array_equal(reranker.single_threaded().predict(CASE.texts), expected)
        assert "num_labels=1" in repr(reranker)
    with pytest.raises(StcompileError, match="closed"):
        reranker.predict(("a", "b"))


@pytest.mark.more_models
def test_a_template_for_pairs_takes_no_text_alone(compiled: Compiled) -> None:
    reranker = stcompile.Reranker.load(compiled("reranker_logit_score"), threads=1)
    with pytest.raises(InputError, match=r"chat template is for pairs of texts, and one came by itself"):
        reranker.predict("a")
