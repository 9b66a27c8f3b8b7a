"""`Encoder` against what sentence-transformers itself recorded, and what it accepts and refuses."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import stcompile
from stcompile.artifact import Artifact
from stcompile.errors import InputError
from stcompile.runtime import batching, postprocess
from stcompile.runtime.text import base
from stcompile.runtime.text.transformer import TransformerText
from tests.conftest import Case, Compiled, load_case

Encoders = Callable[[str], stcompile.Encoder]

_BOTH: Any = ("sentence_embedding", "token_embeddings")
_MAIN = "postprocessing"
_CASES = (_MAIN, "pool_mean_with_prompt", "prompt_default_name", "text_pairs", "truncate_dim_in_config")
_RUNS = [(case, run) for case in _CASES for run in load_case(case).runs]


@pytest.fixture(scope="session")
def encoders(compiled: Compiled) -> Encoders:
    """An encoder a case, opened once."""
    opened: dict[str, stcompile.Encoder] = {}

    def of(case: str) -> stcompile.Encoder:
        if case not in opened:
            outputs = _BOTH if case == _MAIN else _BOTH[:1]
            opened[case] = stcompile.load(compiled(case, outputs=outputs), threads=2)
        return opened[case]

    return of


@pytest.fixture(scope="session")
def encoder(encoders: Encoders) -> stcompile.Encoder:
    return encoders(_MAIN)


@pytest.fixture(scope="session")
def main() -> Case:
    return load_case(_MAIN)


def _assert_close(actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    scale = 2e-6 * np.linalg.norm(expected, axis=-1, keepdims=True) if expected.dtype == np.float32 else 0
    # a float32 difference of the last bit moves a value that sits on the edge of an integer step by one
    bound = scale if expected.dtype == np.float32 else 1
    difference = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    assert (difference <= bound).all(), difference.max()


@pytest.mark.parametrize(("case", "run"), _RUNS, ids=[f"{case}-{run}" for case, run in _RUNS])
def test_a_recorded_run_gives_the_recorded_output(case: str, run: str, encoders: Encoders) -> None:
    golden = load_case(case)
    recorded = golden.runs[run]
    result = getattr(encoders(case), recorded["method"])(golden.texts, **recorded["kwargs"])
    if "offsets" not in recorded:
        _assert_close(result, golden.expected(run))
        return
    assert isinstance(result, list)
    for actual, expected in zip(result, golden.ragged(run), strict=True):
        _assert_close(actual, expected)


@pytest.mark.parametrize("precision", ["binary", "ubinary"])
def test_sign_bits_are_exact(precision: Any, encoder: stcompile.Encoder, main: Case) -> None:
    # no golden value is near enough to zero to hide behind rounding
    assert np.array_equal(encoder.encode(main.texts, precision=precision), main.expected(precision))


@pytest.mark.parametrize("options", [{}, {"truncate_dim": 7}, {"precision": "ubinary"}, {"output_value": _BOTH[1]}])
def test_a_single_text_gives_a_single_result(options: dict[str, Any], encoder: stcompile.Encoder) -> None:
    alone, row = encoder.encode("hello world", **options), encoder.encode(["hello world"], **options)[0]
    assert alone.ndim == (2 if "output_value" in options else 1)
    assert np.array_equal(alone, row)


@pytest.mark.parametrize(
    ("options", "width", "dtype"),
    [
        ({}, 32, np.float32),
        ({"truncate_dim": 5, "normalize_embeddings": True}, 5, np.float32),
        ({"precision": "int8"}, 32, np.int8),
        ({"precision": "uint8"}, 32, np.uint8),
        ({"precision": "binary", "truncate_dim": 20}, 3, np.int8),
    ],
)
def test_no_text_gives_no_rows(options: dict[str, Any], width: int, dtype: Any, encoder: stcompile.Encoder) -> None:
    result = encoder.encode([], **options)
    assert (result.shape, result.dtype) == ((0, width), dtype)


def test_no_text_gives_no_token_rows(encoder: stcompile.Encoder) -> None:
    assert encoder.encode([], output_value=_BOTH[1]) == []


@pytest.mark.parametrize("collection", [tuple, np.array, iter], ids=lambda kind: str(kind.__name__))
def test_any_collection_of_texts_will_do(collection: Any, encoder: stcompile.Encoder, main: Case) -> None:
    assert np.array_equal(encoder.encode(collection(main.texts)), encoder.encode(main.texts))


def test_the_order_of_the_texts_does_not_matter(encoder: stcompile.Encoder, main: Case) -> None:
    order = np.random.default_rng(0).permutation(len(main.texts))
    _assert_close(encoder.encode([main.texts[index] for index in order], batch_size=4), main.expected()[order])


def test_the_default_prompt_stays_out_of_an_explicit_one(encoders: Encoders) -> None:
    encoder = encoders("prompt_default_name")
    assert (encoder.default_prompt_name, encoder.prompts["title"]) == ("title", "title: ")
    assert np.array_equal(encoder.encode("hello"), encoder.encode("title: hello", prompt=""))
    assert np.array_equal(encoder.encode("hello", prompt="x "), encoder.encode("x hello", prompt=""))


def test_prompt_wins_over_prompt_name(encoders: Encoders) -> None:
    encoder = encoders("pool_mean_with_prompt")
    both = encoder.encode("hello", prompt="search  ", prompt_name="query")
    assert np.array_equal(both, encoder.encode("search  hello"))


def test_encode_query_takes_an_explicit_prompt(encoders: Encoders) -> None:
    encoder = encoders("pool_mean_with_prompt")
    assert np.array_equal(encoder.encode_query("hello", prompt_name="document"), encoder.encode_document("hello"))


@pytest.mark.parametrize("names", [("document",), ("passage", "corpus"), ("corpus",), ()], ids=str)
def test_encode_document_takes_the_first_prompt_there_is(names: tuple[str, ...], encoder: stcompile.Encoder) -> None:
    changed = _with(encoder, prompts={name: f"{name} " for name in names})
    head = f"{names[0]} " if names else ""
    assert np.array_equal(changed.encode_document("hello"), encoder.encode(head + "hello"))


@pytest.mark.parametrize(
    ("sentences", "options", "reason"),
    [
        (None, {}, "NoneType"),
        (5, {}, "int"),
        (b"bytes", {}, "bytes"),
        ({"title": "a"}, {}, "item 0 is dict.*one column"),
        (["a", None], {}, "item 1 is NoneType"),
        (["a", float("nan")], {}, "item 1 is float"),
        ([["a", "b", "c"]], {}, "item 0 is list"),
        ([("a", 1)], {}, "item 0 is a pair whose second text is int"),
        (["a"], {"prompt_name": "nope"}, "unknown prompt 'nope'.*'query'"),
        (["a"], {"prompt": 3}, "prompt must be text"),
        (["a"], {"batch_size": 0}, "batch_size"),
        (["a"], {"batch_size": "8"}, "batch_size"),
        (["a"], {"truncate_dim": 0}, "truncate_dim"),
        (["a"], {"truncate_dim": 2.5}, "truncate_dim"),
        (["a"], {"batch_size": True}, "batch_size"),
        (["a"], {"truncate_dim": np.bool_(True)}, "truncate_dim"),
        (["a"], {"precision": "int4"}, "unknown precision 'int4'.*ubinary"),
        (["a"], {"output_value": "pooled"}, "unknown output_value 'pooled'"),
        (["a"], {"precision": "int8"}, "at least two"),
        ("a", {"precision": "uint8"}, "at least two"),
    ],
)
def test_what_encode_cannot_take_is_named(
    sentences: Any, options: dict[str, Any], reason: str, encoder: stcompile.Encoder
) -> None:
    with pytest.raises(InputError, match=reason):
        encoder.encode(sentences, **options)


@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_an_integer_of_numpy_is_a_number(kind: Any, encoder: stcompile.Encoder, main: Case) -> None:
    result = encoder.encode(main.texts, batch_size=kind(4), truncate_dim=kind(4))
    assert np.array_equal(result, encoder.encode(main.texts, batch_size=4, truncate_dim=4))


def test_half_a_surrogate_pair_is_named(encoder: stcompile.Encoder) -> None:
    # equal texts run once: the place is that of the call
    with pytest.raises(InputError, match="item 2 holds half"):
        encoder.encode(["a", "a", "\ud800"])
    with pytest.raises(InputError, match="item 1 holds half"):
        encoder.encode(["a", ("a", "\ud800")])
    with pytest.raises(InputError, match="the prompt holds half"):
        encoder.encode(["a"], prompt="\ud800")


def test_token_embeddings_must_have_been_exported(encoders: Encoders) -> None:
    with pytest.raises(InputError, match="--outputs sentence_embedding,token_embeddings"):
        encoders("prompt_default_name").encode("a", output_value=_BOTH[1])


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", 1_000_000])
def test_a_bad_number_of_threads_is_named(threads: Any, encoder: stcompile.Encoder) -> None:
    with pytest.raises(InputError, match="threads"):
        stcompile.load(encoder.artifact.folder, threads=threads)


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarity_is_that_of_sentence_transformers(name: str, encoder: stcompile.Encoder, main: Case) -> None:
    from sentence_transformers import SimilarityFunction

    vectors = np.vstack([main.expected(), np.zeros((1, 32), np.float32)])
    changed = _with(encoder, similarity=name)
    assert changed.similarity_fn_name == name
    # no vector meets itself: a distance of zero is the square root of a rounding error, there and here
    left, right = vectors[5:10], vectors[10:]
    reference = SimilarityFunction.to_similarity_fn(name)(left, right).numpy()
    np.testing.assert_allclose(changed.similarity(left, right), reference, atol=1e-6 * np.abs(reference).max())


def test_similarity_of_two_vectors_is_one_number(encoder: stcompile.Encoder, main: Case) -> None:
    left, right = main.expected()[5:7]
    assert encoder.similarity(left, right).shape == (1, 1)
    with pytest.raises(InputError, match=r"\(1, 1, 32\)"):
        encoder.similarity(left[None, None], right)
    with pytest.raises(InputError, match="one width, got 32 and 1"):
        encoder.similarity(left, right[:1])


@pytest.mark.parametrize("name", ["euclidean", "manhattan"])
@pytest.mark.parametrize("tile", [1, 100, 1 << 18])
def test_a_distance_is_as_exact_as_its_vectors(name: str, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postprocess, "_TILE", tile)
    # neighbours far from the origin, where the lengths of the vectors drown their distance
    vectors = (100 + np.random.default_rng(0).normal(size=(9, 32)) / 100).astype(np.float32)
    left, right = vectors[:5], vectors[2:]
    apart = left[:, None].astype(np.float64) - right
    expected = -np.linalg.norm(apart, ord=2 if name == "euclidean" else 1, axis=-1)
    result = postprocess.similarity(name, left, right)
    assert result.dtype == np.float32
    assert result.shape == (5, 7)
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    assert postprocess.similarity(name, left[:0], right).shape == (0, 7)
    assert postprocess.similarity(name, left, right[:0]).shape == (5, 0)


@pytest.mark.parametrize(("case", "dim", "kept"), [(_MAIN, 32, None), ("truncate_dim_in_config", 12, 12)])
def test_the_dimension_is_what_encode_returns(case: str, dim: int, kept: int | None, encoders: Encoders) -> None:
    encoder = encoders(case)
    assert encoder.truncate_dim == kept
    assert encoder.get_sentence_embedding_dimension() == encoder.get_embedding_dimension() == dim
    assert encoder.encode("hello").shape == (dim,)


def test_texts_are_cut_at_max_seq_length(encoder: stcompile.Encoder, main: Case) -> None:
    assert encoder.max_seq_length == main.about["max_seq_length"] == 64
    assert len(encoder.encode("hello " * 200, output_value=_BOTH[1])) == 64


@pytest.mark.parametrize("limit", [2, 3, 4])
def test_a_limit_cuts_a_pair_or_refuses_it(limit: int, encoders: Encoders) -> None:
    """Tokenizers, and so sentence-transformers, cut nothing of a pair whose own special tokens are above the limit."""
    encoder = encoders("text_pairs")
    spec = dataclasses.replace(encoder.artifact.manifest.text, max_seq_length=limit)
    text = TransformerText(encoder.artifact.folder, spec, ["input_ids"])
    assert [len(row) for row in text.tokenize(["hello there"], None)] == [limit]
    if limit >= 3:
        assert [len(row) for row in text.tokenize([("hello there", "you")], None)] == [limit]
        return
    with pytest.raises(InputError, match="cut at 2 tokens, fewer than the 3 that a pair of texts has"):
        text.tokenize([("hello there", "you")], None)


@pytest.mark.parametrize(
    ("asked", "level", "shown"),
    [(True, logging.WARNING, True), (None, logging.INFO, True), (None, logging.WARNING, False), (False, 10, False)],
)
def test_the_progress_bar_is_on_stderr(
    asked: bool | None,
    level: int,
    shown: bool,
    encoder: stcompile.Encoder,
    main: Case,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(level, "stcompile"):
        encoder.encode(main.texts, show_progress_bar=asked)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert ("28/28" in printed.err) is shown


def test_no_bar_was_asked_for_and_none_can_be_drawn(
    encoder: stcompile.Encoder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with caplog.at_level(logging.INFO, "stcompile"):
        assert encoder.encode("hello").shape == (32,)


def test_windows_do_not_show(encoder: stcompile.Encoder, main: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "WINDOW", 5)
    _assert_close(encoder.encode(main.texts, batch_size=3), main.expected())
    tokens = encoder.encode(main.texts, output_value=_BOTH[1])
    for actual, expected in zip(tokens, main.ragged("tokens"), strict=True):
        _assert_close(actual, expected)


@pytest.mark.parametrize("limit", ["_CHUNK_TEXTS", "_CHUNK_CHARS"])
@pytest.mark.parametrize("case", [_MAIN, "text_pairs"])
def test_tokenizing_in_chunks_does_not_show(
    case: str, limit: str, encoders: Encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, texts = encoders(case), load_case(case).texts
    at_once = encoder.encode(texts)
    monkeypatch.setattr(base, limit, 3)
    assert np.array_equal(encoder.encode(texts), at_once)


def test_a_row_holds_its_ids_and_no_more(encoders: Encoders) -> None:
    alone, pair, cut = text_of(encoders("text_pairs")).tokenize(["a", ("a", "b"), "hello " * 1000], None)
    assert (alone.type_ids, cut.type_ids) == (None, None)
    assert pair.type_ids is not None
    assert pair.ids.dtype == pair.type_ids.dtype == np.int32
    assert len(pair) == len(pair.type_ids)
    assert cut.ids.nbytes == 4 * len(cut) == 4 * (encoders("text_pairs").max_seq_length or 0)


@pytest.mark.more_models
def test_prompts_that_differ_do_not_pile_up(encoders: Encoders) -> None:
    text = text_of(encoders("pool_mean_exclude_prompt"))
    rows = text.tokenize(["hello"], None)
    lengths = [int(text.collate(rows, "a " * count)["prompt_length"]) for count in (*range(1, 200), 3)]
    assert lengths[-1] == lengths[2] == lengths[1] + 1
    assert text._prompt_tokens.cache_info().currsize == 128


def test_one_encoder_serves_many_threads(encoders: Encoders, main: Case) -> None:
    encoder = encoders("pool_mean_with_prompt")
    jobs = [(main.texts[start % 20 :], "query" if start % 2 else "document", 1 + start % 7) for start in range(80)]

    def run(job: tuple[list[str], str, int]) -> npt.NDArray[np.float32]:
        texts, prompt_name, batch_size = job
        result: npt.NDArray[np.float32] = encoder.encode(texts, prompt_name=prompt_name, batch_size=batch_size)
        return result

    one_by_one = [run(job) for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        for actual, expected in zip(pool.map(run, jobs), one_by_one, strict=True):
            assert np.array_equal(actual, expected)


def text_of(encoder: stcompile.Encoder) -> TransformerText:
    front_end = encoder._routes[""]._text
    assert isinstance(front_end, TransformerText)
    return front_end


def _with(encoder: stcompile.Encoder, **changes: Any) -> stcompile.Encoder:
    """The same graph under a manifest that says something else."""
    manifest = dataclasses.replace(encoder.artifact.manifest, **changes)
    return stcompile.Encoder(Artifact(encoder.artifact.folder, manifest), threads=1)
