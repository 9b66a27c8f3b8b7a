"""What never changes a text's vector: its batch mates, their order and number, and the padding they bring."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

import stcompile
from stcompile.artifact import Artifact, open_artifact
from stcompile.runtime.device import CPU, Device
from stcompile.runtime.engines import open_engine
from stcompile.runtime.text.base import padded
from stcompile.runtime.text.transformer import TransformerText
from tests.conftest import Compiled
from tests.test_golden import scaled_error

# A model for each way to feed texts to a graph.
FRONTS = {
    "transformer": "pool_mean",
    "transformer, padded on the left": "backbone_qwen3_lasttoken",
    "words, recurrent": "wordemb_lstm_bi",
    "words, weighted": "wordemb_wordweights_mean",
    "words, never padded": "wordemb_cnn_max_nonzero_pad",
    "static": "static_normalize",
    "bag of words": "bow_cumulative_weights",
    "routes": "router_first_static_query",
}

# The largest difference of a component, on rows scaled to the length of the row. Another batch is another shape of
# matrix, which the engine adds up in another order. Measured: 5.0e-7.
FLOAT32_ROUNDING = 2e-6

# The same sequence of examples every time.
ALWAYS_THE_SAME = settings(
    derandomize=True,
    deadline=None,
    max_examples=25,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

KNOWN_WORDS = [
    "hello",
    "world",
    "the",
    "quick",
    "brown",
    "fox",
    "New",
    "York",
    "new_york",
    "city",
    "rains",
    "query",
    "passage",
    "你好",
    "x",
    "!",
    "?",
    ",",
    "\n",
]

UNICODE = some.text(some.characters(exclude_categories=["Cs"]), max_size=24)
EMOJI = some.text("\U0001f600\U0001f1eb\U0001f469\u200d\ufe0f\u0301\x00\x07\x1f\x7f\u2028\ufeff ", max_size=12)
SENTENCES = some.lists(some.sampled_from(KNOWN_WORDS), max_size=16).map(" ".join)
TEXTS = some.one_of(SENTENCES, UNICODE, EMOJI)
LONG = some.integers(20, 120).map("the quick brown fox rains ".__mul__)

Encode = Callable[..., npt.NDArray[np.float32]]


@pytest.fixture(params=FRONTS)
def encode(request: pytest.FixtureRequest, compiled: Compiled) -> Encode:
    encoder = opened(str(compiled(FRONTS[request.param])))
    if not encoder.tasks:
        return encoder.encode

    def both_routes(texts: list[str], **options: Any) -> npt.NDArray[np.float32]:
        routes = [encoder.encode_query(texts, **options), encoder.encode_document(texts, **options)]
        return np.concatenate(routes, axis=-1)

    return both_routes


@cache
def opened(artifact: str) -> stcompile.Encoder:
    return stcompile.Encoder.load(artifact, threads=1)


def assert_same(expected: npt.NDArray[Any], vectors: npt.NDArray[Any]) -> None:
    assert vectors.shape == expected.shape
    assert np.array_equal(np.isinf(vectors), np.isinf(expected))
    assert scaled_error(expected, vectors).max(initial=0) <= FLOAT32_ROUNDING


@ALWAYS_THE_SAME
@given(texts=some.lists(TEXTS, min_size=1, max_size=8), data=some.data())
def test_the_order_of_a_batch(texts: list[str], data: Any, encode: Encode) -> None:
    order = data.draw(some.permutations(range(len(texts))))
    assert_same(encode(texts)[order], encode([texts[index] for index in order]))


@ALWAYS_THE_SAME
@given(texts=some.lists(TEXTS, min_size=1, max_size=8), size=some.integers(1, 9))
def test_the_size_of_a_batch(texts: list[str], size: int, encode: Encode) -> None:
    assert_same(encode(texts, batch_size=1), encode(texts, batch_size=size))


@ALWAYS_THE_SAME
@given(text=TEXTS, mates=some.lists(TEXTS, max_size=4), longer=LONG)
def test_padding_up_to_a_long_text(text: str, mates: list[str], longer: str, encode: Encode) -> None:
    alone = encode(text)
    assert_same(alone[np.newaxis], encode([longer, text, *mates])[1:2])


@ALWAYS_THE_SAME
@given(text=TEXTS, mate=TEXTS, times=some.integers(2, 6))
def test_the_same_text_again(text: str, mate: str, times: int, encode: Encode) -> None:
    vectors = encode([text] * times + [mate, text])
    assert_same(np.repeat(vectors[:1], times + 1, axis=0), vectors[[*range(times), times + 1]])


@ALWAYS_THE_SAME
@given(text=TEXTS, empty=some.sampled_from(["", " ", "\n\t", "\x00", "\u200b"]), where=some.integers(0, 2))
def test_empty_texts_beside_it(text: str, empty: str, where: int, encode: Encode) -> None:
    texts = [empty, empty]
    texts.insert(where, text)
    vectors = encode(texts)
    assert_same(encode(text)[np.newaxis], vectors[where : where + 1])
    assert_same(np.repeat(encode(empty)[np.newaxis], 2, axis=0), np.delete(vectors, where, axis=0))


@ALWAYS_THE_SAME
@given(text=TEXTS)
def test_nothing_becomes_a_number_that_is_none(text: str, encode: Encode) -> None:
    vectors = encode([text])
    assert not np.isnan(vectors).any()
    assert not np.isposinf(vectors).any()


@pytest.mark.parametrize("case", ["backbone_qwen3_lasttoken", "pool_mean_leftpad"])
@ALWAYS_THE_SAME
@given(texts=some.lists(SENTENCES, min_size=2, max_size=6), more=some.integers(0, 9))
def test_the_side_of_the_padding(texts: list[str], more: int, case: str, compiled: Compiled) -> None:
    """Rotary positions are relative, and pooling looks for the tokens: the same graph takes padding on either side."""
    left, right = on_both_sides(str(compiled(case)), texts, more)
    assert_same(left, right)


def test_the_side_of_the_padding_matters_to_learned_positions(compiled: Compiled) -> None:
    left, right = on_both_sides(str(compiled("pool_mean")), ["hello", "the quick brown fox"], 3)
    with pytest.raises(AssertionError):
        assert_same(left, right)


def on_both_sides(folder: str, texts: list[str], more: int) -> list[npt.NDArray[np.float32]]:
    """Vectors of the texts in one batch, padded to the left and to the right, to `more` than the longest."""
    artifact, front, engine = taken_apart(folder)
    spec = artifact.manifest.text
    rows = front.tokenize(texts, None)
    width = max(len(row) for row in rows) + more
    found = []
    for side in ("left", "right"):
        wide = dataclasses.replace(spec, padding_side=side, min_seq_length=width)
        feeds = padded(rows, wide, pad_id=spec.pad_id)
        for name in (item.name for item in artifact.manifest.graphs[0].inputs):
            feeds.setdefault(name, np.zeros_like(feeds["input_ids"]))
        found.append(engine.run(feeds, ("sentence_embedding",))[0])
    return found


@cache
def taken_apart(folder: str) -> tuple[Artifact, TransformerText, Any]:
    artifact = open_artifact(folder)
    (graph,) = artifact.manifest.graphs
    front = TransformerText(artifact.folder, artifact.manifest.text, [item.name for item in graph.inputs])
    return artifact, front, open_engine(artifact.folder, graph, artifact.manifest, Device(CPU), 1)


def test_the_comparison_can_fail(compiled: Compiled) -> None:
    """What is quantized per batch does depend on the batch, and is found out."""
    encoder = opened(str(compiled("pool_mean", "onnx-int8-dynamic")))
    alone = encoder.encode(["hello"])
    with pytest.raises(AssertionError):
        assert_same(alone, encoder.encode(["hello", "the quick brown fox " * 20])[:1])
    moved = alone.copy()
    moved[0, 3] += 1.5 * FLOAT32_ROUNDING * np.linalg.norm(alone)
    with pytest.raises(AssertionError):
        assert_same(alone, moved)
    with pytest.raises(AssertionError):
        assert_same(np.full((1, 4), -np.inf), np.full((1, 4), np.inf))
