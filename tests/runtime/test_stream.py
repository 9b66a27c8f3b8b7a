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
    return stcompile.load(compiled(CASE, outputs=("sentence_embedding", "token_embeddings")), threads=2)


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
