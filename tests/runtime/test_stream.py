"""`encode_iter`: the same vectors, few texts at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import stcompile
from stcompile.errors import InputError
from stcompile.runtime import batching
from tests.conftest import Compiled, load_case

CASE = "postprocessing"


@pytest.fixture(scope="module")
def encoder(compiled: Compiled) -> stcompile.Encoder:
    return stcompile.Encoder.load(compiled(CASE, outputs=("sentence_embedding", "token_embeddings")), threads=2)


@pytest.mark.parametrize("window", [1, 5, 1000])
@pytest.mark.parametrize("options", [{}, {"normalize_embeddings": True, "truncate_dim": 7}, {"precision": "ubinary"}])
def test_a_stream_gives_what_encode_gives(
    window: int, options: dict[str, Any], encoder: stcompile.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = load_case(CASE).texts
    at_once = encoder.encode(texts, **options)
    monkeypatch.setattr(batching, "WINDOW", window)
    found = np.stack(list(encoder.encode_iter(iter(texts), **options)))
    assert found.dtype == at_once.dtype
    if at_once.dtype == np.float32:
        np.testing.assert_allclose(found, at_once, atol=1e-6)
    else:
        assert np.array_equal(found, at_once)


def test_token_rows_stream_too(encoder: stcompile.Encoder) -> None:
    texts = load_case(CASE).texts[:5]
    shapes = [rows.shape for rows in encoder.encode(texts, output_value="token_embeddings")]
    assert [rows.shape for rows in encoder.encode_iter(texts, output_value="token_embeddings")] == shapes


def test_no_more_texts_are_taken_than_a_window_holds(
    encoder: stcompile.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "WINDOW", 4)
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield f"text {taken}"

    stream = encoder.encode_iter(endless())
    for yielded in range(1, 20):
        assert next(stream).shape == (32,)
        assert taken - yielded < 4


@pytest.mark.parametrize(
    ("texts", "options", "sentence"),
    [
        ("hello", {}, "encode_iter takes many texts"),
        ({"query": "hello"}, {}, "encode_iter takes many texts"),
        (["a", "b"], {"precision": "int8"}, "takes its ranges from all texts of a call"),
        (["a", 3], {}, "item 1 is int"),
        (["a"], {"prompt_name": "none such"}, "unknown prompt"),
        (3, {}, "got int"),
        (["a"] * 5000 + [3], {}, "item 5000 is int"),
    ],
)
def test_what_cannot_be_streamed(
    texts: Any, options: dict[str, Any], sentence: str, encoder: stcompile.Encoder
) -> None:
    with pytest.raises(InputError, match=sentence):
        list(encoder.encode_iter(texts, **options))


class _SourceError(Exception):
    """A source's own."""


def _failing(texts: list[Any], error: Exception) -> Iterator[Any]:
    yield from texts
    raise error


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8])
@pytest.mark.parametrize("window", [1, 4, 1000])
def test_a_source_that_fails_late_has_given_all_before_it(
    count: int, window: int, encoder: stcompile.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "WINDOW", window)
    texts = load_case(CASE).texts[:count]
    stream = encoder.encode_iter(_failing(texts, _SourceError("the disk is gone")))
    found: list[Any] = []
    with pytest.raises(_SourceError, match="the disk is gone"):
        found.extend(stream)
    # extend has taken what came before the error
    assert len(found) == count
    if count:
        np.testing.assert_allclose(np.stack(found), encoder.encode(texts), atol=1e-6)
    assert list(stream) == []


@pytest.mark.parametrize("window", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("wrong", "reason"), [(3, "is int"), (None, "is NoneType"), ("\ud800", "holds half"), ({"query": "x"}, "is dict")]
)
def test_a_wrong_item_has_its_place_in_the_whole_stream(
    wrong: Any, reason: str, window: int, encoder: stcompile.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "WINDOW", window)
    items: list[Any] = [{"text": "a"}, "a", ("a", "b"), {"text": "a"}, "a", wrong, "a"]
    found: list[Any] = []
    with pytest.raises(InputError, match=f"item 5 {reason}"):
        found.extend(encoder.encode_iter(items))
    assert len(found) == 5


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"prompt_name": "none such"}, "unknown prompt"),
        ({"batch_size": 0}, "batch_size"),
        ({"truncate_dim": 0}, "truncate_dim"),
        ({"precision": "int4"}, "unknown precision"),
        ({"output_value": "pooled"}, "unknown output_value"),
        ({"device": "cuda"}, "computes on cpu"),
        ({"colour": "red"}, "has no option 'colour'"),
    ],
)
def test_a_wrong_option_is_noticed_at_the_call(
    options: dict[str, Any], reason: str, encoder: stcompile.Encoder
) -> None:
    with pytest.raises(InputError, match=reason):
        encoder.encode_iter(["a"], **options)


def test_what_an_artifact_lacks_is_noticed_at_the_call(compiled: Compiled) -> None:
    plain, routed = stcompile.load(compiled("prompt_default_name")), stcompile.load(compiled("router_two_encoders"))
    with pytest.raises(InputError, match="this artifact has no token_embeddings"):
        plain.encode_iter(["a"], output_value="token_embeddings")
    with pytest.raises(InputError, match="no route for task 'passage'"):
        routed.encode_iter(["a"], task="passage")


def test_all_keys_of_a_stream_are_one(compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "WINDOW", 2)
    encoder = stcompile.load(compiled("router_two_encoders"))
    items = [{"query": "a"}, {"query": "b"}, {"query": "c"}]
    np.testing.assert_allclose(
        np.stack(list(encoder.encode_iter(items))), encoder.encode_query(["a", "b", "c"]), atol=1e-6
    )
    with pytest.raises(InputError, match="must all have the same one"):
        list(encoder.encode_iter([*items, {"document": "d"}]))
