"""`MultiVectorEncoder`: its results, what is done with them, what it refuses, beside those of sentence-transformers."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sentence_transformers import MultiVectorEncoder as Theirs
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling
from sentence_transformers.util import similarity as reference

import stcompile
from stcompile.errors import ArtifactError, InputError, MissingExtraError
from stcompile.runtime import late_interaction
from stcompile.runtime.late_interaction import as_texts, maxsim
from stcompile.runtime.multi_vector_encoder import MultiVectorOptions
from tests.conftest import MODELS, Compiled

TEXTS = ["hello world!", "the quick brown fox, and more", "hello world!", "", "a lazy dog. another one"]
QUERIES = ["what is a fox?", "dog", "the"]

# Of a number of a vector of length 1, as tests/test_golden_multi_vectors.py; of a sum of a dozen products.
ROUNDING, SCORE_ROUNDING = 2e-6, 1e-5


@pytest.fixture(scope="module")
def encoder(compiled: Compiled) -> stcompile.MultiVectorEncoder:
    return stcompile.MultiVectorEncoder.load(compiled("multi_vector_fixed"), threads=1)


@pytest.fixture(scope="module")
def theirs() -> Any:
    return Theirs(str(MODELS / "multi_vector_fixed"), device="cpu")


def assert_alike(found: Any, expected: Any) -> None:
    assert [rows.shape for rows in found] == [rows.shape for rows in expected]
    for ours, rows in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, rows, atol=ROUNDING)


def test_the_forms_of_a_result(encoder: stcompile.MultiVectorEncoder, theirs: Any) -> None:
    expected = theirs.encode(TEXTS, convert_to_numpy=True)
    found = encoder.encode(TEXTS)
    assert isinstance(found, list)
    assert all(rows.dtype == np.float32 for rows in found)
    assert_alike(found, expected)
    assert_alike(list(encoder.encode_iter(iter(TEXTS))), expected)
    assert_alike([encoder.encode(text) for text in TEXTS], expected)
    assert_alike(encoder.encode(TEXTS, batch_size=2), expected)
    tensors = encoder.encode(TEXTS, convert_to_numpy=False)
    assert all(isinstance(rows, torch.Tensor) for rows in tensors)
    assert_alike([rows.numpy() for rows in tensors], expected)
    found[0][:] = 0
    assert found[2].any(), "texts that are equal share an array"
    assert encoder.encode([]) == []
    assert encoder.encode("").shape[1] == encoder.get_embedding_dimension() == 16


@pytest.mark.parametrize("task", [None, "query", "document", "something else"])
def test_tasks_are_theirs(task: str | None, encoder: stcompile.MultiVectorEncoder, theirs: Any) -> None:
    assert_alike(encoder.encode(TEXTS, task=task), theirs.encode(TEXTS, task=task, convert_to_numpy=True))


def test_routes_share_one_engine(encoder: stcompile.MultiVectorEncoder) -> None:
    manifest = encoder.artifact.manifest
    assert {graph.file for graph in manifest.graphs} == {"model.onnx"}
    assert len(manifest.graphs) > 1
    for one in (encoder, encoder.single_threaded()):
        assert len({id(route._engine) for route in one._routes.values()}) == 1


@pytest.mark.parametrize("measure", ["maxsim", "meanmaxsim"])
def test_similarity_is_theirs(
    measure: str, encoder: stcompile.MultiVectorEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Theirs(str(MODELS / "multi_vector_fixed"), device="cpu")
    model.similarity_fn_name = measure
    monkeypatch.setattr(type(encoder), "similarity_fn_name", property(lambda _: measure))
    queries, documents = encoder.encode_query(QUERIES), encoder.encode_document(TEXTS)
    expected = model.similarity(model.encode_query(QUERIES), model.encode_document(TEXTS)).numpy()
    forms = {
        "lists": (queries, documents),
        "arrays of fixed size": (encoder.padded(queries), encoder.padded(documents, 40)),
        "tensors": ([torch.from_numpy(rows) for rows in queries], torch.from_numpy(encoder.padded(documents))),
    }
    for name, (left, right) in forms.items():
        found = encoder.similarity(left, right)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=SCORE_ROUNDING, err_msg=name)
    np.testing.assert_allclose(encoder.similarity(queries[1], documents), expected[1:2], atol=SCORE_ROUNDING)
    pairs = encoder.similarity_pairwise(queries, documents[:3])
    np.testing.assert_allclose(pairs, expected.diagonal(), atol=SCORE_ROUNDING)
    for by_length in (True, False):
        score = reference.maxsim(queries, documents, length_normalize=by_length).numpy()
        found = encoder.similarity(queries, documents, length_normalize=by_length)
        np.testing.assert_allclose(found, score, atol=SCORE_ROUNDING)


def test_masks_are_theirs(encoder: stcompile.MultiVectorEncoder) -> None:
    random = np.random.default_rng(0)
    left, right = (random.standard_normal((n, 6, 16)).astype(np.float32) for n in (3, 4))
    left_mask, right_mask = (random.random((n, 6)) < 0.7 for n in (3, 4))
    expected = reference.maxsim(left, right, a_mask=left_mask, b_mask=right_mask).numpy()
    forms: list[Any] = [
        (left, left_mask, right, right_mask),
        ([*left], [*left_mask], torch.from_numpy(right), [*right_mask]),
    ]
    for queries, a_mask, documents, b_mask in forms:
        for chunk in (None, 1):
            masks: dict[str, Any] = {"a_mask": a_mask, "b_mask": b_mask, "chunk_elements": chunk, "device": "cpu"}
            found = encoder.similarity(queries, documents, **masks)
            np.testing.assert_allclose(found, expected, atol=SCORE_ROUNDING)
            pairs = encoder.similarity_pairwise(queries[:3], documents[:3], **{**masks, "b_mask": b_mask[:3]})
            np.testing.assert_allclose(pairs, expected.diagonal(), atol=SCORE_ROUNDING)
    one = encoder.similarity(left[0], right, a_mask=left_mask[0], b_mask=right_mask, length_normalize=True)
    means = reference.maxsim(left[0], right, a_mask=left_mask[0], b_mask=right_mask, length_normalize=True).numpy()
    np.testing.assert_allclose(one, means, atol=SCORE_ROUNDING)


def test_scores_of_nothing_are_theirs() -> None:
    random = np.random.default_rng(0)
    queries = [random.standard_normal((n, 8)).astype(np.float32) for n in (3, 0, 5)]
    documents = [random.standard_normal((n, 8)).astype(np.float32) for n in (0, 4, 0, 7, 1)]
    expected = reference.maxsim(queries, documents).numpy()
    np.testing.assert_allclose(maxsim(queries, documents), expected, rtol=1e-5)
    assert maxsim([], documents).shape == (0, 5)
    assert maxsim(queries, []).shape == (3, 0)


def test_many_documents_are_scored_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    queries, documents = (
        [random.standard_normal((n, 8)).astype(np.float32) for n in sizes] for sizes in ((3, 9), (4, 0, 30, 2, 1, 8))
    )
    whole = maxsim(queries, documents)
    monkeypatch.setattr(late_interaction, "_TILE", 60)
    np.testing.assert_allclose(maxsim(queries, documents), whole, rtol=1e-5)


@pytest.mark.parametrize("factor", [1.0, 1.7, 3, 100])
@pytest.mark.parametrize("normalizes", [True, False])
def test_pooling_of_a_call_is_theirs(
    factor: float, normalizes: bool, encoder: stcompile.MultiVectorEncoder, theirs: Any
) -> None:
    asked = HierarchicalTokenPooling(factor, num_protected_tokens=2, normalize_embeddings=normalizes)
    ours = stcompile.TokenPooling(np.float64(factor), cast("int", np.int64(2)), normalizes)
    for task in ("document", "query"):
        expected = theirs.encode(TEXTS, task=task, token_pooling=asked, convert_to_numpy=True)
        assert_alike(encoder.encode(TEXTS, task=task, token_pooling=ours), expected)
        assert_alike(encoder.encode(TEXTS, task=task, token_pooling=asked), expected)


def test_pooling_without_scipy_names_it(encoder: stcompile.MultiVectorEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.cluster.hierarchy", None)
    with pytest.raises(MissingExtraError, match=r"Pooling the tokens of a document needs scipy.*stcompile\[pooling\]"):
        encoder.encode(TEXTS, token_pooling=stcompile.TokenPooling(2))


def test_vectors_of_fixed_size(encoder: stcompile.MultiVectorEncoder) -> None:
    found = encoder.encode_document(TEXTS)
    most = max(map(len, found))
    assert encoder.padded(found).shape == (5, most, 16)
    wide: npt.NDArray[np.float32] = encoder.padded(found, most + 3)
    assert wide.shape == (5, most + 3, 16)
    for rows, vectors in zip(wide, found, strict=True):
        assert np.array_equal(rows[: len(vectors)], vectors)
        assert not rows[len(vectors) :].any()
    assert encoder.padded([]).shape == (0, 0, 16)
    with pytest.raises(InputError, match=f"a text has {most} vectors, more than 2: pool its tokens"):
        encoder.padded(found, 2)


def test_normalized_by_wish(compiled: Compiled) -> None:
    encoder = stcompile.MultiVectorEncoder.load(compiled("multi_vector_residual"), threads=1)
    model = Theirs(str(MODELS / "multi_vector_residual"), device="cpu")
    expected = model.encode(TEXTS, normalize_embeddings=True, convert_to_numpy=True)
    assert_alike(encoder.encode(TEXTS, normalize_embeddings=True), expected)


def test_it_is_pickled_and_copied(encoder: stcompile.MultiVectorEncoder) -> None:
    expected = encoder.encode_query(QUERIES)
    for other in (pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder)):
        assert_alike(other.encode_query(QUERIES), expected)
    assert repr(encoder).startswith("MultiVectorEncoder('")
    assert set(encoder.tasks) == {"query", "document"}


def test_its_methods_take_what_theirs_take(encoder: stcompile.MultiVectorEncoder) -> None:
    theirs = list(inspect.signature(Theirs.encode).parameters)[2:-1]
    assert list(MultiVectorOptions.__dataclass_fields__) == theirs
    for name in ("encode", "encode_query", "encode_document", "similarity", "similarity_pairwise"):
        assert callable(getattr(encoder, name))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda it: it.encode([3]), "text"),
        (lambda it: it.encode(TEXTS, output_value=None), "gives token_embeddings alone, not None"),
        (lambda it: it.encode(TEXTS, prompt_name="nothing"), "unknown prompt 'nothing'"),
        (lambda it: it.encode(TEXTS, token_pooling=3), "token_pooling takes a stcompile.TokenPooling"),
        (lambda it: it.encode(TEXTS, token_pooling=stcompile.TokenPooling(0.5)), "pool_factor must be a number from 1"),
        (lambda it: it.encode_iter("one text"), "encode_iter takes many texts"),
        (lambda it: it.similarity([np.zeros((2, 3))], [np.zeros((2, 4))]), "vectors of one width, got 3 and 4"),
        (lambda it: it.similarity([[1.0, 2.0]], [np.zeros((2, 4))]), r"takes a list of arrays \(tokens, dim\)"),
        (lambda it: it.similarity("text", [np.zeros((2, 4))]), r"takes a list of arrays \(tokens, dim\)"),
        (lambda it: it.similarity([np.ones((2, 4))], [np.ones((3, 4))], b_mask=[[1, 0]]), "masks as long as the texts"),
        (lambda it: it.similarity([np.ones((2, 4))], [np.ones((3, 4))], chunk_elements=0), "chunk_elements"),
        (lambda it: it.similarity([np.ones((2, 4))], [np.ones((3, 4))], device="cuda"), "computes on cpu"),
        (lambda it: it.similarity_pairwise([np.zeros((2, 4))], []), "as many queries as documents, got 1 and 0"),
    ],
)
def test_what_is_wrong_is_one_sentence(call: Any, says: str, encoder: stcompile.MultiVectorEncoder) -> None:
    with pytest.raises(InputError, match=says):
        call(encoder)


def test_another_kind_is_named(compiled: Compiled, encoder: stcompile.MultiVectorEncoder) -> None:
    with pytest.raises(ArtifactError, match="is a multi-vector encoder, not an encoder: "):
        stcompile.Encoder.load(encoder.artifact.folder)
    with pytest.raises(ArtifactError, match="is an encoder, not a multi-vector encoder"):
        stcompile.MultiVectorEncoder.load(compiled("static"))
    assert isinstance(stcompile.load(encoder.artifact.folder), stcompile.MultiVectorEncoder)


def test_a_list_is_read_as_texts_and_a_matrix_as_one() -> None:
    assert len(as_texts("x", np.ones((3, 4)))) == 1
    # In an array of fixed size zeros are no vectors, in a list they are.
    three = np.ones((2, 3, 4), np.float32)
    three[1, 1:] = 0
    assert [len(rows) for rows in as_texts("x", three)] == [3, 1]
    assert [len(rows) for rows in as_texts("x", list(three))] == [3, 3]
    with pytest.raises(InputError, match="got an array of 1 axes"):
        as_texts("x", np.ones(3))
