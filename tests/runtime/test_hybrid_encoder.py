"""`HybridEncoder`: what it can be asked for, and one sentence for what it cannot."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stcompile
from stcompile.errors import ArtifactError, InputError
from stcompile.runtime.async_encoder import AsyncEncoder
from tests.conftest import Compiled, load_case
from tests.hybrid import ALL, CASE

TEXTS = ["hello world", "the quick brown fox", "hello world", ""]


@pytest.fixture(scope="module")
def artifact(compiled: Compiled) -> Path:
    return compiled(CASE, outputs=ALL)


@pytest.fixture(scope="module")
def encoder(artifact: Path) -> stcompile.HybridEncoder:
    return stcompile.HybridEncoder.load(artifact, threads=1)


def test_load_says_what_it_is(artifact: Path, compiled: Compiled) -> None:
    found = stcompile.load(artifact)
    assert type(found) is stcompile.HybridEncoder
    assert found.outputs == ALL
    with pytest.raises(ArtifactError, match=r"a hybrid encoder, not an encoder.*has encode and encode_hybrid"):
        stcompile.Encoder.load(artifact)
    with pytest.raises(ArtifactError, match="an encoder, not a hybrid encoder"):
        stcompile.HybridEncoder.load(compiled("static"))


def test_it_is_an_encoder_too(encoder: stcompile.HybridEncoder) -> None:
    known = load_case(CASE)
    np.testing.assert_allclose(encoder.encode(known.texts), known.expected(), atol=1e-6)
    dense = encoder.encode(TEXTS)
    assert encoder.encode(TEXTS, precision="binary").dtype == np.int8
    np.testing.assert_allclose(encoder.encode_hybrid(TEXTS).dense, dense, atol=1e-6)
    assert encoder.encode_query(TEXTS[0], truncate_dim=5).shape == (5,)


async def _through(encoder: stcompile.HybridEncoder) -> Any:
    async with AsyncEncoder(encoder) as served:
        return await served.encode(TEXTS)


def test_servers_get_its_dense_vectors(encoder: stcompile.HybridEncoder) -> None:
    import asyncio

    np.testing.assert_allclose(asyncio.run(_through(encoder)), encoder.encode(TEXTS), atol=1e-6)


def test_what_was_not_asked_for_is_none(encoder: stcompile.HybridEncoder) -> None:
    found = encoder.encode_hybrid(TEXTS, outputs=["sparse"])
    assert found.dense is None
    assert found.multi_vector is None
    assert found.sparse.shape == (4, 326)
    found = encoder.encode_hybrid(TEXTS, outputs=("multi_vector", "dense"))
    assert found.sparse is None
    assert [len(rows) for rows in found.multi_vector][3] == 1


def test_of_one_text_there_is_its_own(encoder: stcompile.HybridEncoder) -> None:
    one, several = encoder.encode_hybrid(TEXTS[1]), encoder.encode_hybrid(TEXTS)
    assert one.dense is not None
    assert several.dense is not None
    np.testing.assert_allclose(one.dense, several.dense[1], atol=1e-6)
    assert one.sparse.indices.tolist() == several.sparse[1].indices.tolist()
    assert one.multi_vector.shape == several.multi_vector[1].shape
    nothing = encoder.encode_hybrid([])
    assert nothing.dense is not None
    assert (nothing.dense.shape, nothing.sparse.shape, nothing.multi_vector) == ((0, 32), (0, 326), [])


def test_equal_texts_have_results_of_their_own(encoder: stcompile.HybridEncoder) -> None:
    found = encoder.encode_hybrid(TEXTS)
    found.multi_vector[0][:] = 0
    assert np.abs(found.multi_vector[2]).max() > 0


def test_a_stream_gives_the_same(encoder: stcompile.HybridEncoder) -> None:
    expected = encoder.encode_hybrid(TEXTS)
    found = list(encoder.encode_hybrid_iter(iter(TEXTS)))
    for place, each in enumerate(found):
        np.testing.assert_allclose(each.dense, expected.dense[place], atol=1e-6)
        np.testing.assert_allclose(each.sparse.values, expected.sparse[place].values, atol=1e-5)
        np.testing.assert_allclose(each.multi_vector, expected.multi_vector[place], atol=1e-6)
    late = encoder.encode_hybrid_iter([TEXTS[0], 5])
    assert next(late).sparse.dim == 326
    with pytest.raises(InputError, match="item 1"):
        next(late)


def test_pickled_and_alone(encoder: stcompile.HybridEncoder) -> None:
    other = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_allclose(other.encode_hybrid(TEXTS).dense, encoder.encode_hybrid(TEXTS).dense, atol=1e-6)
    assert encoder.single_threaded().encode_hybrid(TEXTS[0]).multi_vector.shape[1] == 32


def test_tokens_have_names(encoder: stcompile.HybridEncoder) -> None:
    vectors = encoder.encode_hybrid(load_case(CASE).texts, outputs=["sparse"]).sparse
    place = int(np.argmax(np.diff(vectors.indptr)))
    names = encoder.decode(vectors[place])
    assert [weight for _, weight in names] == sorted(vectors[place].values.tolist(), reverse=True)
    assert encoder.token_weights(vectors[place]) == dict(names)
    assert encoder.decode(vectors[place], top_k=1) == names[:1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"outputs": ["dense", "colbert"]}, "outputs must be some of dense, sparse, multi_vector"),
        ({"outputs": "lexical"}, "got 'lexical'"),
        ({"outputs": []}, "outputs must be some of"),
        ({"prompt_name": "nope"}, "unknown prompt 'nope'"),
        ({"batch_size": 0}, "batch_size"),
        ({"normalize_embeddings": True}, "has no option 'normalize_embeddings'"),
    ],
)
def test_what_it_cannot_do(encoder: stcompile.HybridEncoder, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        encoder.encode_hybrid(TEXTS, **options)
    with pytest.raises(InputError, match=says):
        encoder.encode_hybrid_iter(TEXTS, **options)


@pytest.mark.parametrize(
    "weights", [{"dense": -1}, {"dense": 0}, {"colbert": 1}, {"dense": True}, {"dense": float("nan")}]
)
def test_weights_that_are_none(encoder: stcompile.HybridEncoder, weights: dict[str, float]) -> None:
    found = encoder.encode_hybrid(TEXTS)
    with pytest.raises(InputError, match="similarity_hybrid weighs dense, sparse, multi_vector by numbers"):
        encoder.similarity_hybrid(found, found, weights)


def test_what_both_sides_have_is_compared(encoder: stcompile.HybridEncoder) -> None:
    one, other = (encoder.encode_hybrid(TEXTS, outputs=["dense", name]) for name in ("sparse", "multi_vector"))
    found = encoder.similarity_hybrid(one, other)
    assert found.sparse is found.multi_vector is None
    np.testing.assert_array_equal(found.combined, found.dense)
    with pytest.raises(InputError, match="nothing that both sides have"):
        encoder.similarity_hybrid(
            encoder.encode_hybrid(TEXTS, outputs=["sparse"]), encoder.encode_hybrid(TEXTS, outputs=["dense"])
        )


@pytest.mark.more_models
def test_dense_and_sparse_alone(compiled: Compiled) -> None:
    encoder = stcompile.HybridEncoder.load(compiled(CASE, outputs=("dense", "sparse")), threads=1)
    assert encoder.outputs == ("dense", "sparse")
    with pytest.raises(InputError, match="outputs must be some of dense, sparse, which this artifact makes"):
        encoder.encode_hybrid(TEXTS, outputs=ALL)
    manifest = json.loads((encoder.artifact.folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["kind"] == "hybrid encoder"
    assert [item["name"] for item in manifest["graphs"][0]["outputs"]] == ["sentence_embedding", "token_weights"]
