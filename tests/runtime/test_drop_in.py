"""What code written for sentence-transformers calls: the same names, order and defaults, and the same results."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from sentence_transformers import SentenceTransformer, SimilarityFunction

import stcompile
from stcompile.errors import InputError, MissingExtraError, ProviderError
from stcompile.runtime import postprocess
from tests.conftest import MODELS, Compiled
from tests.test_golden import FLOAT32_ROUNDING, scaled_error

PAIRS, ROUTER = "text_pairs", "router_two_encoders"
TEXTS = ["The weather is lovely today.", "hello", "größer 你好", ""]

# What is meant to differ: the name of a parameter of sentence-transformers, and what there is instead.
DIFFERENCES: dict[str, Callable[[inspect.Parameter], inspect.Parameter]] = {
    # of as many texts as is fastest
    "batch_size": lambda parameter: parameter.replace(default=None),
    # the one keyword of a model that there is: others are refused
    "kwargs": lambda _: inspect.Parameter("task", inspect.Parameter.KEYWORD_ONLY, default=None),
}


@pytest.fixture(scope="module")
def encoder(compiled: Compiled) -> stcompile.Encoder:
    return stcompile.Encoder.load(compiled(PAIRS, outputs=("sentence_embedding", "token_embeddings")), threads=1)


@pytest.fixture(scope="module")
def reference() -> SentenceTransformer:
    return SentenceTransformer(str(MODELS / PAIRS), device="cpu", local_files_only=True)


def _parameters(method: Any) -> list[tuple[str, Any, Any]]:
    return [(item.name, item.kind, item.default) for item in inspect.signature(method).parameters.values()]


@pytest.mark.parametrize(
    "name",
    ["encode", "encode_query", "encode_document", "similarity", "similarity_pairwise", "get_embedding_dimension"],
)
def test_a_method_is_called_as_in_the_installed_release(name: str) -> None:
    theirs = inspect.signature(getattr(SentenceTransformer, name)).parameters.values()
    wanted = [DIFFERENCES[item.name](item) if item.name in DIFFERENCES else item for item in theirs]
    assert _parameters(getattr(stcompile.Encoder, name)) == [(item.name, item.kind, item.default) for item in wanted]


def test_a_stream_has_the_options_of_encode() -> None:
    assert _parameters(stcompile.Encoder.encode_iter) == _parameters(stcompile.Encoder.encode)


def _assert_same(actual: Any, expected: Any) -> None:
    """The same values and shapes; lists item by item; tensors where there are tensors, for numbers as exact."""
    assert isinstance(actual, list) == isinstance(expected, list)
    if isinstance(expected, list):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            _assert_same(one, other)
        return
    found, wanted = np.asarray(actual), np.asarray(expected)
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    if wanted.dtype == np.float32:
        assert scaled_error(np.atleast_2d(wanted), np.atleast_2d(found)).max() <= FLOAT32_ROUNDING
    else:
        # A float32 difference of the last bit may move a value across the edge of a step.
        assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1


OPTIONS: list[dict[str, Any]] = [
    {"convert_to_numpy": True},
    {"convert_to_tensor": False},
    {"convert_to_tensor": True},
    {"convert_to_tensor": True, "convert_to_numpy": False, "normalize_embeddings": True},
    {"convert_to_tensor": True, "precision": "ubinary"},
    {"convert_to_tensor": True, "output_value": "token_embeddings"},
    {"convert_to_numpy": False},
    {"convert_to_numpy": False, "precision": "binary", "truncate_dim": 8},
    {"device": "cpu"},
    {"device": torch.device("cpu")},
    {"pool": None, "chunk_size": None},
    {"precision": None},
    {"task": "query"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("inputs", ["hello", TEXTS], ids=["one", "many"])
def test_an_option_gives_what_it_gives_there(
    inputs: Any, options: dict[str, Any], encoder: stcompile.Encoder, reference: SentenceTransformer
) -> None:
    actual: Any = encoder.encode(inputs, **options)
    _assert_same(actual, reference.encode(inputs, **options))
    first = actual[0] if isinstance(actual, list) else actual
    # Lists hold numpy's vectors: torch is for who asks for it by name.
    assert isinstance(first, torch.Tensor) == bool(options.get("convert_to_tensor"))


def test_positions_mean_what_they_mean_there(encoder: stcompile.Encoder, reference: SentenceTransformer) -> None:
    arguments: Any = (None, None, 2, False, "sentence_embedding", "float32", True, False, "cpu", True, 7)
    _assert_same(encoder.encode(TEXTS, *arguments), reference.encode(TEXTS, *arguments))
    _assert_same(encoder.encode_query(TEXTS, *arguments), reference.encode_query(TEXTS, *arguments))
    _assert_same(encoder.encode_document(TEXTS, *arguments), reference.encode_document(TEXTS, *arguments))


@pytest.mark.parametrize("method", ["encode", "encode_query", "encode_document"])
def test_the_first_argument_has_two_names(
    method: str, encoder: stcompile.Encoder, reference: SentenceTransformer
) -> None:
    expected = getattr(reference, method)(inputs=TEXTS)
    _assert_same(getattr(encoder, method)(inputs=TEXTS), expected)
    _assert_same(getattr(encoder, method)(sentences=TEXTS), expected)
    with pytest.raises(InputError, match="pass one"):
        getattr(encoder, method)(TEXTS, sentences=TEXTS)


def test_a_stream_gives_tensors_too(encoder: Any) -> None:
    rows = list(encoder.encode_iter(sentences=TEXTS, convert_to_tensor=True))
    assert all(isinstance(row, torch.Tensor) for row in rows)
    _assert_same(torch.stack(rows), encoder.encode(TEXTS))


# Items and collections


def _same_items(name: str) -> Any:
    text = "text"
    return {
        "tuple": tuple(TEXTS),
        "array": np.array(TEXTS),
        "array of objects": np.array(TEXTS, dtype=object),
        "numpy's strings": [np.str_(text) for text in TEXTS],
        "generator": (text for text in TEXTS),
        "keys of a dict": dict.fromkeys(TEXTS).keys(),
        "text keys": [{text: value} for value in TEXTS],
        "text keys and texts": [{text: TEXTS[0]}, *TEXTS[1:]],
        "pandas": pd.DataFrame({text: TEXTS})[text],
        "pandas, objects": pd.Series(TEXTS, dtype=object),
        "pandas, by arrow": pd.Series(TEXTS, dtype="string[pyarrow]"),
        "pandas, categories": pd.Series(TEXTS, dtype="category"),
        "pandas, other index": pd.Series(TEXTS, index=[7, 5, 3, 1]),
        "polars": pl.DataFrame({text: TEXTS})[text],
        "polars, categories": pl.Series(TEXTS, dtype=pl.Categorical),
        "pyarrow": pa.table({text: TEXTS})[text],
        "pyarrow, array": pa.array(TEXTS, pa.large_string()),
        "pyarrow, dictionary": pa.array(TEXTS).dictionary_encode(),
        "pyarrow, scalars": list(pa.array(TEXTS, pa.string_view())),
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        *("tuple", "array", "array of objects", "numpy's strings", "generator", "keys of a dict", "text keys"),
        *("text keys and texts", "pandas", "pandas, objects", "pandas, by arrow", "pandas, categories"),
        *("pandas, other index", "polars", "polars, categories", "pyarrow", "pyarrow, array", "pyarrow, dictionary"),
        "pyarrow, scalars",
    ],
)
def test_a_column_of_texts_is_its_texts(name: str, encoder: stcompile.Encoder, reference: SentenceTransformer) -> None:
    expected = reference.encode(TEXTS)
    _assert_same(encoder.encode(_same_items(name)), expected)
    _assert_same(np.stack(list(encoder.encode_iter(_same_items(name)))), expected)


PAIRED = [("a", "b"), ("where is it", "there")]


@pytest.mark.parametrize(
    "inputs",
    [
        PAIRED,
        [list(pair) for pair in PAIRED],
        np.array(PAIRED),
        np.array(PAIRED, dtype=object),
        pd.DataFrame(PAIRED).to_numpy(),
        [{"text": pair} for pair in PAIRED],
    ],
    ids=["tuples", "lists", "array", "objects", "pandas", "text keys"],
)
def test_pairs_are_pairs(inputs: Any, encoder: stcompile.Encoder, reference: SentenceTransformer) -> None:
    expected = reference.encode(inputs)
    assert expected.shape == (2, 32)
    _assert_same(encoder.encode(inputs), expected)
    _assert_same(np.stack(list(encoder.encode_iter(inputs))), expected)


@pytest.mark.more_models
def test_one_text_by_its_key(encoder: stcompile.Encoder, reference: SentenceTransformer, compiled: Compiled) -> None:
    _assert_same(encoder.encode({"text": "hello"}), reference.encode({"text": "hello"}))
    routed = SentenceTransformer(str(MODELS / ROUTER), device="cpu", local_files_only=True)
    ours: Any = stcompile.load(compiled(ROUTER), threads=1)
    options: dict[str, Any]
    for options in ({}, {"task": "query"}, {"task": "document"}):
        _assert_same(ours.encode([{"text": "hello"}], **options), routed.encode([{"text": "hello"}], **options))


FRAME = {"text": ["a", "b"], "id": [1, 2]}
NO_LISTS: dict[str, tuple[Any, str]] = {
    "pandas table": (pd.DataFrame(FRAME), "got a DataFrame: pass one column"),
    "pandas table of one column": (pd.DataFrame(FRAME)[["text"]], "got a DataFrame: pass one column"),
    "polars table": (pl.DataFrame(FRAME), "got a DataFrame: pass one column"),
    "polars lazy table": (pl.LazyFrame(FRAME), "got a LazyFrame: pass one column"),
    "pyarrow table": (pa.table(FRAME), "got a Table: pass one column"),
    "pyarrow batch": (pa.RecordBatch.from_pydict(FRAME), "got a RecordBatch: pass one column"),
    "columns": (FRAME, "item 0 is dict.*one column"),
    "one column": ({"text": ["a", "b"]}, "'text' holds a list"),
    "mapping": (types.MappingProxyType({"text": "a"}), "got mappingproxy: pass a list"),
    "set": ({"a", "b"}, "a set has none"),
    "frozen set": (frozenset("ab"), "a frozenset has none"),
    "array of one column": (np.array([["a"], ["b"]]), r"got shape \(2, 1\)"),
    "array of three columns": (np.array([["a", "b", "c"]]), r"got shape \(1, 3\)"),
    "deep array": (np.zeros((2, 2, 2), dtype="U1"), r"got shape \(2, 2, 2\)"),
    "array without an axis": (np.array("a"), r"got shape \(\)"),
    "records": (np.array([("a", 1)], dtype=[("text", "U1"), ("id", int)]), r"got shape \(1,\)"),
    "bytes": (b"ab", "got bytes"),
    "byte array": (bytearray(b"ab"), "got bytearray"),
    "numbers": (np.zeros(2), "item 0 is float"),
    "tensor": (torch.zeros(2), "item 0 is Tensor"),
    "pandas, missing": (pd.Series(["a", None]), "item 1 is float, not text: a missing value"),
    "pandas, NA": (pd.Series(["a", pd.NA], dtype="string"), "item 1 is .*, not text: a missing value"),
    "polars, missing": (pl.Series(["a", None]), "item 1 is NoneType, not text: a missing value"),
    "pyarrow, missing": (pa.array(["a", None]), "item 1 is NoneType, not text: a missing value"),
    "a message": ([{"role": "user", "content": "a"}], "item 0 is dict"),
}


@pytest.mark.parametrize("name", NO_LISTS)
def test_what_is_no_list_of_texts_is_refused(name: str, encoder: stcompile.Encoder) -> None:
    inputs, reason = NO_LISTS[name]
    with pytest.raises(InputError, match=reason):
        encoder.encode(inputs)
    if not isinstance(inputs, dict):
        with pytest.raises(InputError, match=reason):
            list(encoder.encode_iter(inputs))


# What is refused


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"device": "cuda"}, r"computes on cpu, not on cuda: leave device out, or load one there with .*load\(folder"),
        ({"device": ["cpu", "cpu"]}, r"not on \['cpu', 'cpu'\]"),
        ({"pool": {"processes": []}}, "pool and chunk_size are about processes"),
        ({"chunk_size": 8}, "pool and chunk_size are about processes"),
        ({"processing_kwargs": {}}, "encode has no option 'processing_kwargs': it takes inputs, prompt_name"),
        ({"output_value": None}, "unknown output_value None"),
    ],
)
def test_what_a_compiled_model_does_not_do_is_refused(
    options: dict[str, Any], reason: str, encoder: stcompile.Encoder
) -> None:
    with pytest.raises(InputError, match=reason):
        encoder.encode(["a"], **options)


def test_a_device_that_is_none_is_named(encoder: stcompile.Encoder) -> None:
    with pytest.raises(ProviderError, match="unknown device 'tpu'"):
        encoder.encode(["a"], device="tpu")


def test_tensors_without_torch_are_refused(encoder: stcompile.Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("stcompile.runtime.options.importlib.import_module", missing)
    with pytest.raises(MissingExtraError, match="leave it out for numpy, or pip install torch"):
        encoder.encode(["a"], convert_to_tensor=True)


# Similarity


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, list, lambda rows: list(torch.from_numpy(rows))])
def test_similarity_of_any_vectors_is_theirs(
    name: str, kind: Any, monkeypatch: pytest.MonkeyPatch, compiled: Compiled
) -> None:
    encoder = stcompile.load(compiled(PAIRS), threads=1)
    monkeypatch.setattr(type(encoder), "similarity_fn_name", name)
    rows = np.random.default_rng(0).normal(size=(9, 16)).astype(np.float32)
    rows[3] = 0
    left, right = rows[:4], rows[4:8]
    pairwise = SimilarityFunction.to_similarity_pairwise_fn(name)
    every = SimilarityFunction.to_similarity_fn(name)
    for (first, second), theirs in [((left, right), pairwise), ((left, right[0]), pairwise), ((left, right), every)]:
        method = encoder.similarity if theirs is every else encoder.similarity_pairwise
        expected = theirs(first, second).numpy()
        found = method(embeddings1=kind(first), embeddings2=kind(second))
        assert (str(found.dtype), found.shape) == ("float32", expected.shape)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    single = encoder.similarity_pairwise(left[0], right[0])
    assert single.shape == ()
    np.testing.assert_allclose(single, pairwise(left[0], right[0]).numpy(), rtol=1e-6)


def test_pairwise_can_tell_its_measures_apart() -> None:
    rows = np.random.default_rng(0).normal(size=(2, 3, 16)).astype(np.float32)
    found = [postprocess.similarity_pairwise(name, *rows) for name in ("cosine", "dot", "euclidean", "manhattan")]
    assert np.abs(np.diff(found, axis=0)).min() > 1e-3


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (np.zeros((3, 4)), np.zeros((2, 4)), "equally many vectors, got 3 and 2"),
        (np.zeros((3, 4)), np.zeros((3, 5)), "one width, got 4 and 5"),
        ([[1.0], [1.0, 2.0]], np.zeros((2, 2)), "numpy can read"),
        (torch.zeros(2, requires_grad=True), torch.zeros(2), "numpy can read"),
        (["a", "b"], ["c", "d"], "numpy can read"),
        (3, 4, r"got shape \(\)"),
        (np.zeros((2, 2), np.int8), np.zeros((2, 2)), "takes float32 vectors, got int8, whose numbers are packed bits"),
        (torch.zeros(2), torch.zeros(2, dtype=torch.uint8), 'got uint8, .*: encode with precision="float32"'),
        (list(np.zeros((2, 2), np.uint8)), list(np.zeros((2, 2), np.uint8)), "got uint8"),
    ],
)
def test_what_has_no_similarity_is_named(first: Any, second: Any, reason: str, encoder: stcompile.Encoder) -> None:
    with pytest.raises(InputError, match=reason):
        encoder.similarity_pairwise(first, second)
    if "equally" not in reason:
        with pytest.raises(InputError, match=reason):
            encoder.similarity(first, second)


def test_what_else_is_asked_of_a_model(encoder: stcompile.Encoder, reference: SentenceTransformer) -> None:
    assert encoder.get_embedding_dimension() == reference.get_embedding_dimension()
    assert encoder.get_sentence_embedding_dimension() == reference.get_embedding_dimension()
    for name in ("max_seq_length", "similarity_fn_name", "default_prompt_name", "truncate_dim", "prompts"):
        assert getattr(encoder, name) == getattr(reference, name)
    assert str(encoder.device) == str(reference.device)
