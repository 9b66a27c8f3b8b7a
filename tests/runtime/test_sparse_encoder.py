"""`SparseEncoder`: its results, what is done with them, and what it refuses; the reference is sentence-transformers."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from sentence_transformers import SparseEncoder as Theirs

import stcompile
from stcompile.errors import ArtifactError, InputError
from stcompile.runtime.sparse_vectors import SparseVector, SparseVectors, as_sparse, rows_of
from stcompile.runtime.vocabulary import Vocabulary
from tests.conftest import MODELS, Compiled, load_case

TEXTS = ["hello world", "the quick brown fox", "hello world", "", "a lazy dog and another dog"]


@pytest.fixture(scope="module")
def splade(compiled: Compiled) -> stcompile.SparseEncoder:
    return stcompile.SparseEncoder.load(compiled("sparse_splade"), threads=1)


@pytest.fixture(scope="module")
def theirs() -> Any:
    return Theirs(str(MODELS / "sparse_splade"), device="cpu")


@pytest.fixture(scope="module")
def csr(compiled: Compiled) -> stcompile.SparseEncoder:
    return stcompile.SparseEncoder.load(compiled("sparse_csr"), threads=1)


def test_the_forms_of_a_result(splade: stcompile.SparseEncoder, theirs: Any) -> None:
    expected = theirs.encode(TEXTS).to_dense().numpy()
    found = splade.encode(TEXTS)
    assert found.shape == expected.shape == (5, splade.get_embedding_dimension())
    assert (len(found), found.nnz) == (5, np.count_nonzero(expected))
    forms = {
        "ours": found.toarray(),
        "rows": np.stack([row.toarray() for row in found]),
        "slices": np.concatenate([found[:2].toarray(), found[2:].toarray()]),
        "dense": splade.encode(TEXTS, convert_to_sparse_tensor=False),
        "torch": splade.encode(TEXTS, convert_to_tensor=True).to_dense().numpy(),
        "dense torch": splade.encode(TEXTS, convert_to_tensor=True, convert_to_sparse_tensor=False).numpy(),
        "scipy": found.toscipy().toarray(),
        "a stream": np.stack([row.toarray() for row in splade.encode_iter(iter(TEXTS))]),
        "one by one": np.stack([splade.encode(text).toarray() for text in TEXTS]),
        "one as torch": np.stack([splade.encode(text, convert_to_tensor=True).to_dense().numpy() for text in TEXTS]),
    }
    for name, form in forms.items():
        assert form.dtype == np.float32, name
        np.testing.assert_allclose(form, expected, atol=2e-5, err_msg=name)
    assert splade.encode(TEXTS, convert_to_tensor=True).is_coalesced()
    assert [vector.to_dict()["indices"] for vector in found] == [np.flatnonzero(row).tolist() for row in expected]
    assert (found.indices.dtype, found.values.dtype, found.indptr.dtype) == (np.int32, np.float32, np.int64)


def test_no_text_gives_no_vector(splade: stcompile.SparseEncoder) -> None:
    assert splade.encode([]).shape == (0, splade.get_embedding_dimension())
    assert splade.encode([], convert_to_tensor=True).shape == (0, splade.get_embedding_dimension())


def test_a_file_that_scipy_reads(splade: stcompile.SparseEncoder) -> None:
    found, place = splade.encode(TEXTS), io.BytesIO()
    found.save_npz(place)
    place.seek(0)
    assert np.array_equal(scipy.sparse.load_npz(place).toarray(), found.toarray())


@pytest.mark.parametrize("keep", [1, 5, 10_000])
def test_the_largest_are_kept(keep: int, splade: stcompile.SparseEncoder, theirs: Any) -> None:
    expected = theirs.encode(TEXTS, max_active_dims=keep).to_dense().numpy()
    found = splade.encode(TEXTS, max_active_dims=keep).toarray()
    assert np.array_equal(found != 0, expected != 0)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_of_equal_numbers_the_first_are_kept_and_large_ones_below_zero() -> None:
    (row,) = rows_of(np.array([[1.0, -3.0, 0.0, 1.0, 2.0, 1.0]], np.float32), 4)
    assert row.indices.tolist() == [0, 1, 3, 4]
    assert row.values.tolist() == [1.0, -3.0, 1.0, 2.0]


def test_learned_features_have_a_number_by_default_and_any_by_wish(csr: stcompile.SparseEncoder) -> None:
    theirs = Theirs(str(MODELS / "sparse_csr"), device="cpu")
    assert csr.max_active_dims == theirs.max_active_dims == 12
    for keep in (None, 3, 40):
        expected = theirs.encode(TEXTS, max_active_dims=keep).to_dense().numpy()
        np.testing.assert_allclose(csr.encode(TEXTS, max_active_dims=keep).toarray(), expected, atol=2e-5)


@pytest.mark.parametrize("measure", ["dot", "cosine", "euclidean", "manhattan"])
def test_similarity_is_theirs(measure: str, splade: stcompile.SparseEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = Theirs(str(MODELS / "sparse_splade"), device="cpu", similarity_fn_name=measure)
    monkeypatch.setattr(type(splade), "similarity_fn_name", property(lambda _: measure))
    ours, reference = splade.encode(TEXTS), theirs.encode(TEXTS)
    few = {"ours": ours[:2], "scipy": ours[:2].toscipy(), "torch": theirs.encode(TEXTS[:2]), "a list": list(ours[:2])}
    # torch has no distances of sparse tensors.
    dense = reference.to_dense()
    for name, left in few.items():
        found = splade.similarity(left, ours)
        assert found.dtype == np.float32
        expected = theirs.similarity(dense[:2], dense).numpy()
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=3e-3 * ("an" in measure), err_msg=name)
    pairwise = theirs.similarity_pairwise(dense[:2], dense[1:3]).numpy()
    np.testing.assert_allclose(splade.similarity_pairwise(ours[:2], ours[1:3]), pairwise, rtol=2e-5)
    assert splade.similarity_pairwise(ours[0], ours[1]).shape == ()


def test_tokens_and_weights_are_theirs(splade: stcompile.SparseEncoder, theirs: Any) -> None:
    ours, reference = splade.encode(TEXTS), theirs.encode(TEXTS)
    for top in (None, 4):
        for found, expected in zip(splade.decode(ours, top), theirs.decode(reference, top), strict=True):
            assert [token for token, _ in found] == [token for token, _ in expected]
            np.testing.assert_allclose([value for _, value in found], [value for _, value in expected], atol=2e-5)
    assert splade.decode(ours[0]) == splade.decode(ours)[0]
    weights = splade.token_weights(ours)
    assert [len(item) for item in weights] == [len(row.indices) for row in ours]
    assert splade.token_weights(ours[1]) == weights[1]
    assert list(weights[1].items()) == splade.decode(ours[1])


def test_sparsity_and_what_two_have_in_common_are_theirs(splade: stcompile.SparseEncoder, theirs: Any) -> None:
    ours, reference = splade.encode(TEXTS), theirs.encode(TEXTS)
    expected = theirs.sparsity(reference)
    assert splade.sparsity(ours) == pytest.approx(expected, rel=1e-6)
    assert splade.sparsity(ours[0]) == pytest.approx(theirs.sparsity(reference[0]), rel=1e-6)
    assert splade.sparsity(ours[:0]) == {"active_dims": 0.0, "sparsity_ratio": 1.0}
    common = splade.intersection(ours[0], ours)
    assert isinstance(common, SparseVectors)
    np.testing.assert_allclose(
        common.toarray(), theirs.intersection(reference[0], reference).to_dense().numpy(), rtol=1e-4, atol=1e-5
    )
    assert isinstance(splade.intersection(ours[0], ours[1]), SparseVector)


@pytest.mark.more_models
def test_routes_and_prompts(compiled: Compiled) -> None:
    router = stcompile.load(compiled("sparse_router"), threads=1)
    case = load_case("sparse_router")
    assert set(router.tasks) == {"query", "document"}
    found = router.encode(case.texts[:4], task="document").toarray()
    np.testing.assert_allclose(found, case.expected("encode_document")[:4], atol=2e-5)
    assert router.decode(router.encode_query("hello world"))
    with pytest.raises(InputError, match="no route for task 'passage'"):
        router.encode("hello", task="passage")


def test_it_is_copied_and_closed_like_an_encoder(splade: stcompile.SparseEncoder) -> None:
    other = pickle.loads(pickle.dumps(splade))
    assert np.array_equal(other.encode(TEXTS).toarray(), splade.encode(TEXTS).toarray())
    assert repr(splade).startswith("SparseEncoder('sparse_splade-onnx-fp32', target='onnx-fp32', dim=341")
    with other:
        assert np.array_equal(other.single_threaded().encode(TEXTS).toarray(), splade.encode(TEXTS).toarray())
    with pytest.raises(stcompile.StcompileError, match="closed"):
        other.encode("x")


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda encoder: encoder.encode([1]), "item 0 is int"),
        (lambda encoder: encoder.encode("x", max_active_dims=0), "max_active_dims must be"),
        (lambda encoder: encoder.encode("x", truncate_dim=4), "encode has no option 'truncate_dim'"),
        (lambda encoder: encoder.encode("x", prompt_name="none"), "unknown prompt 'none'"),
        (lambda encoder: encoder.encode("x", pool={}), "pool and chunk_size"),
        (lambda encoder: encoder.encode_iter("x"), "encode_iter takes many texts"),
        (lambda encoder: encoder.decode(np.zeros(7)), "decode takes vectors of 341 dimensions, got 7"),
        (lambda encoder: encoder.decode("x"), "decode takes what encode gives"),
        (lambda encoder: encoder.decode(encoder.encode("x"), top_k=0), "top_k must be"),
        (lambda encoder: encoder.similarity(np.zeros(7), np.zeros(8)), "vectors of one width, got 7 and 8"),
        (lambda encoder: encoder.similarity(np.zeros((1, 2, 3)), np.zeros(8)), r"got shape \(1, 2, 3\)"),
        (
            lambda encoder: encoder.similarity_pairwise(np.zeros((2, 3)), np.zeros((1, 3))),
            "equally many vectors, got 2 and 1",
        ),
        (
            lambda encoder: encoder.intersection(np.zeros((2, 3)), np.zeros(3)),
            "intersection takes one vector first, not a list or matrix of 2",
        ),
        (lambda encoder: encoder.sparsity([[1], [1, 2]]), "sparsity takes what encode gives"),
        (
            lambda encoder: encoder.similarity([SparseVector(*rows_of_one(3)), SparseVector(*rows_of_one(4))], [[1]]),
            "vectors of one width, got 3, 4",
        ),
    ],
)
def test_wrong_calls_are_one_sentence(
    ask: Callable[[Any], Any], sentence: str, splade: stcompile.SparseEncoder
) -> None:
    with pytest.raises(InputError, match=sentence):
        ask(splade)


def rows_of_one(dim: int) -> tuple[Any, Any, int]:
    return np.zeros(1, np.int32), np.ones(1, np.float32), dim


def test_learned_features_have_no_names(csr: stcompile.SparseEncoder) -> None:
    with pytest.raises(InputError, match="decode names tokens, and the dimensions of this model are learned features"):
        csr.decode(csr.encode("hello"))


def test_who_opens_the_wrong_class_is_told_the_right_one(compiled: Compiled) -> None:
    with pytest.raises(ArtifactError, match=r"is a sparse encoder, not an encoder: stcompile.load gives a SparseEnc"):
        stcompile.Encoder.load(compiled("sparse_splade"))
    with pytest.raises(ArtifactError, match=r"is an encoder, not a sparse encoder: stcompile.load gives an Encoder"):
        stcompile.SparseEncoder.load(compiled("pool_mean"))


def test_many_callers_share_runs_of_dense_vectors_alone(splade: stcompile.SparseEncoder) -> None:
    with pytest.raises(InputError, match="AsyncEncoder collects the texts of an Encoder, got SparseEncoder"):
        stcompile.AsyncEncoder(splade)  # type: ignore[arg-type]


def test_what_no_token_is_called_has_no_weight(
    splade: stcompile.SparseEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a network whose vocabulary was made larger than the tokenizer's."""
    monkeypatch.setattr(Vocabulary, "_token", lambda self, index: None if index % 2 else f"token {index}")
    vector = splade.encode("hello world")
    assert set(splade.token_weights(vector)) == {f"token {index}" for index in vector.indices if index % 2 == 0}
    assert len(splade.decode(vector)) == len(vector.indices)


def test_vectors_of_every_form_are_read_as_they_are(splade: stcompile.SparseEncoder) -> None:
    """No matrix is made dense for it, zeros and doubles of the others are cleared up, no vectors are no error."""
    ours = splade.encode(TEXTS)
    coordinates = scipy.sparse.coo_array(([1.0, 2.0, 0.0, 3.0], ([0, 0, 0, 1], [4, 4, 7, 2])), shape=(2, 9))
    tensor = torch.sparse_coo_tensor(
        torch.tensor([[0, 0, 0, 1], [4, 4, 7, 2]]), torch.tensor([1.0, 2.0, 0.0, 3.0]), (2, 9)
    )
    for given in (coordinates, coordinates.tocsc(), tensor, tensor.bfloat16().requires_grad_()):
        found, single = as_sparse("test", given)
        assert (found.shape, found.nnz, single) == ((2, 9), 2, False)
        assert found.indices.tolist() == [4, 2]
        assert found.values.tolist() == [3, 3]
    one = splade.encode("hello world", convert_to_tensor=True)
    assert np.array_equal(as_sparse("test", one)[0].toarray()[0], splade.encode("hello world").toarray())
    dense = torch.ones(341, dtype=torch.bfloat16, requires_grad=True)
    assert splade.sparsity(dense)["active_dims"] == 341
    assert splade.decode([]) == splade.token_weights([]) == []
    assert splade.similarity([], ours).shape == (0, 5)
    assert splade.similarity(ours, []).shape == (5, 0)
    assert splade.intersection(ours[0], []).shape == (0, 341)


def test_many_short_texts_are_no_large_matrix(compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stcompile.runtime.route.SPARSE_NUMBERS", 341 * 3)
    with stcompile.SparseEncoder.load(compiled("sparse_static"), threads=1) as encoder:
        (route,) = encoder._routes.values()
        assert [len(places) for places, _ in route.batches(["hello"] * 7, None, None)] == [3, 3, 1]
        assert [len(places) for places, _ in route.batches(["hello"] * 7, None, 5)] == [5, 2]
