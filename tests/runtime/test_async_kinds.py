"""What `AsyncEncoder` is to an Encoder, of the other kinds: the same results, whoever shares a run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stcompile
from stcompile.errors import InputError
from stcompile.runtime.collector import Usage
from tests.conftest import Compiled, load_case

TEXTS = ["hello world", "a dog", "the quick brown fox", "one more", "", "a cat sat on the mat"]


async def asked(shared: Any, method: str, inputs: list[Any], **options: Any) -> Any:
    async with shared:
        return await asyncio.gather(*(getattr(shared, method)(item, **options) for item in inputs))


def test_pairs_of_many_callers(compiled: Compiled) -> None:
    reranker = stcompile.Reranker.load(compiled("reranker_bert"), threads=1)
    pairs = [("a dog", text) for text in TEXTS]
    for activation in (None, "identity"):
        found = asyncio.run(asked(stcompile.AsyncReranker(reranker), "predict", pairs, activation_fn=activation))
        np.testing.assert_allclose(found, reranker.predict(pairs, activation_fn=activation), atol=2e-6)
    (many,) = asyncio.run(asked(stcompile.AsyncReranker(reranker), "predict", [pairs]))
    np.testing.assert_allclose(many, reranker.predict(pairs), atol=2e-6)


@pytest.mark.parametrize("case", ["sparse_splade", "bge_m3"])
def test_sparse_vectors_of_many_callers(case: str, compiled: Compiled) -> None:
    outputs = ("sparse", "dense") if case == "bge_m3" else ("sentence_embedding",)
    encoder = stcompile.load(compiled(case, outputs=outputs), threads=1)
    expected = encoder.encode_hybrid(TEXTS).sparse if case == "bge_m3" else encoder.encode(TEXTS)
    for found in (
        asyncio.run(asked(stcompile.AsyncSparseEncoder(encoder), "encode", TEXTS)),
        asyncio.run(asked(stcompile.AsyncSparseEncoder(encoder), "encode", [TEXTS]))[0],
    ):
        for row, vector in zip(found, expected, strict=True):
            assert row.indices.tolist() == vector.indices.tolist()
            np.testing.assert_allclose(row.values, vector.values, atol=1e-5)


def test_vectors_of_tokens_of_many_callers(compiled: Compiled) -> None:
    encoder = stcompile.MultiVectorEncoder.load(compiled("multi_vector_bert"), threads=1)
    for method in ("encode", "encode_query", "encode_document"):
        found = asyncio.run(asked(stcompile.AsyncMultiVectorEncoder(encoder), method, TEXTS))
        for rows, expected in zip(found, getattr(encoder, method)(TEXTS), strict=True):
            np.testing.assert_allclose(rows, expected, atol=2e-6)


def test_one_of_them_is_wrong_and_nobody_else_notices(compiled: Compiled) -> None:
    reranker = stcompile.Reranker.load(compiled("reranker_bert"), threads=1)

    async def main() -> list[Any]:
        async with stcompile.AsyncReranker(reranker) as shared:
            right = [shared.predict(("a dog", text)) for text in TEXTS]
            wrong = shared.predict([("a", "b", "c")])
            return await asyncio.gather(*right, wrong, return_exceptions=True)

    *scores, error = asyncio.run(main())
    assert isinstance(error, InputError)
    np.testing.assert_allclose(scores, reranker.predict([("a dog", text) for text in TEXTS]), atol=2e-6)


def test_each_takes_its_own_kind(compiled: Compiled) -> None:
    encoder = stcompile.load(compiled("pool_mean"))
    for kind in (stcompile.AsyncReranker, stcompile.AsyncSparseEncoder, stcompile.AsyncMultiVectorEncoder):
        with pytest.raises(InputError, match=rf"{kind.__name__} collects the texts of a .*, got Encoder"):
            kind(encoder)


def lengths(case: str, texts: list[Any], limit: int | None) -> list[int]:
    """Tokens of each text, or pair, as transformers' tokenizer of the model's folder makes them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(load_case(case).model)
    # In lists: by itself an empty second text is none to it.
    sides = [([text],) if isinstance(text, str) else ([text[0]], [text[1]]) for text in texts]
    return [len(tokenizer(*both, truncation=limit is not None, max_length=limit)["input_ids"][0]) for both in sides]


@pytest.mark.parametrize(
    ("case", "shared", "method", "inputs"),
    [
        ("pool_mean", stcompile.AsyncEncoder, "encode", [*TEXTS, "a dog", "word " * 600]),
        ("pool_mean", stcompile.AsyncEncoder, "encode", [{"text": "a dog"}, {"text": "a cat"}]),
        ("reranker_bert", stcompile.AsyncReranker, "predict", [("a dog", text) for text in (*TEXTS, "a dog")]),
        ("sparse_splade", stcompile.AsyncSparseEncoder, "encode", TEXTS),
        ("multi_vector_kept_ids", stcompile.AsyncMultiVectorEncoder, "encode_document", TEXTS),
    ],
)
def test_tokens_that_were_computed(case: str, shared: Any, method: str, inputs: list[Any], compiled: Compiled) -> None:
    """Of each caller his own, whoever shared his runs, and equal texts each for itself."""
    texts = [one["text"] if isinstance(one, dict) else one for one in inputs]
    loaded: Any = stcompile.load(compiled(case), threads=2)
    expected = lengths(case, texts, loaded.max_seq_length)
    counts = [Usage() for _ in inputs]
    whole = Usage()

    async def main() -> None:
        async with shared(loaded) as collector:
            ask = getattr(collector, method)
            each = [ask(one, usage=count) for one, count in zip(inputs, counts, strict=True)]
            await asyncio.gather(*each, ask(inputs, usage=whole))

    asyncio.run(main())
    assert [one.tokens for one in counts] == expected
    assert (whole.texts, whole.tokens) == (len(inputs), sum(expected))


def test_an_image_has_no_tokens_however_it_is_told(compiled: Compiled, tmp_path: Path) -> None:
    from PIL import Image

    file = tmp_path / "black.png"
    Image.new("RGB", (24, 24)).save(file)
    usage = Usage()
    encoder = stcompile.Encoder.load(compiled("clip_text"), threads=1)

    async def main() -> Any:
        async with stcompile.AsyncEncoder(encoder) as shared:
            return await shared.encode([file, str(file), {"image": str(file)}, "a dog"], usage=usage)

    vectors = asyncio.run(main())
    assert np.allclose(vectors[0], vectors[1])
    assert np.allclose(vectors[0], encoder.encode([file])[0], atol=1e-6)
    before = encoder.counted.tokens
    encoder.encode("a dog")
    assert (usage.texts, usage.tokens) == (4, encoder.counted.tokens - before)
