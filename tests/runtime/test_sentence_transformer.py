"""`stcompile.SentenceTransformer` in the place of sentence-transformers' own: made as it, and with its vectors."""

from __future__ import annotations

import inspect
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer, SimilarityFunction

import stcompile
from stcompile.errors import ArtifactError, InputError
from stcompile.runtime.drop_in import _SETTLED
from stcompile.runtime.left_out import LEFT_OUT
from tests.conftest import MODELS, Compiled

CASE = "pool_mean_with_prompt"
TEXTS = ["hello world", "a dog", "größer"]

MADE: list[dict[str, Any]] = [
    {},
    {"prompts": {"other": "other: "}},
    {"prompts": {"other": "other: "}, "default_prompt_name": "other"},
    {"truncate_dim": 8},
    {"similarity_fn_name": "dot"},
    {"similarity_fn_name": SimilarityFunction.EUCLIDEAN},
    {"device": "cpu", "trust_remote_code": True, "local_files_only": True, "cache_folder": None},
]


@pytest.mark.parametrize("options", MADE, ids=lambda options: ",".join(options) or "nothing")
def test_it_is_made_and_encodes_as_theirs(options: dict[str, Any], compiled: Compiled) -> None:
    ours = stcompile.SentenceTransformer(compiled(CASE), **options)
    theirs = SentenceTransformer(str(MODELS / CASE), **{"device": "cpu", **options})
    for method in ("encode", "encode_query", "encode_document"):
        expected = getattr(theirs, method)(TEXTS)
        np.testing.assert_allclose(getattr(ours, method)(TEXTS), expected, atol=5e-6)
    assert ours.prompts == theirs.prompts
    assert ours.default_prompt_name == theirs.default_prompt_name
    assert ours.similarity_fn_name == theirs.similarity_fn_name
    assert ours.get_max_seq_length() == theirs.get_max_seq_length()
    vectors = ours.encode(TEXTS)
    np.testing.assert_allclose(ours.similarity(vectors, vectors), theirs.similarity(vectors, vectors), atol=1e-4)


def test_it_is_copied_with_its_options(compiled: Compiled) -> None:
    ours = stcompile.SentenceTransformer(compiled(CASE), prompts={"other": "other: "}, default_prompt_name="other")
    again = pickle.loads(pickle.dumps(ours))
    assert np.array_equal(again.encode(TEXTS), ours.encode(TEXTS))
    assert again.default_prompt_name == "other"
    assert ours.eval().to("cpu") is ours


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model_kwargs": {"dtype": "float16"}}, "model_kwargs cannot be chosen for what is compiled: leave it out"),
        ({"modules": [], "config_kwargs": {}}, "config_kwargs, modules cannot be chosen"),
        ({"no_such_option": 1}, "no_such_option cannot be chosen"),
        ({"default_prompt_name": "no"}, "unknown default prompt 'no'"),
        ({"similarity_fn_name": "no"}, "unknown similarity_fn_name 'no'"),
        ({"truncate_dim": 0}, "truncate_dim must be a whole number of at least 1"),
    ],
)
def test_what_it_cannot_be_is_refused(options: dict[str, Any], says: str, compiled: Compiled) -> None:
    with pytest.raises(InputError, match=says):
        stcompile.SentenceTransformer(compiled(CASE), **options)


def test_what_is_no_artifact_or_no_encoder_is_refused(compiled: Compiled) -> None:
    with pytest.raises(ArtifactError):
        stcompile.SentenceTransformer(MODELS / CASE)
    with pytest.raises(ArtifactError, match="is a reranker, not an encoder"):
        stcompile.SentenceTransformer(compiled("reranker_bert"))
    with pytest.raises(ArtifactError, match="is a multi-vector encoder, not an encoder"):
        stcompile.SentenceTransformer(compiled("multi_vector_bert"))


def _both(compiled: Compiled) -> tuple[Any, Any]:
    ours = stcompile.SentenceTransformer(compiled(CASE))
    return ours, SentenceTransformer(str(MODELS / CASE), device="cpu")


SETTINGS: list[dict[str, Any]] = [
    {"truncate_dim": 8},
    {"truncate_dim": 8, "similarity_fn_name": None},
    {"prompts": {"other": "other: ", "empty": None}, "default_prompt_name": "other"},
    {"prompts": {"query": "ask: ", "document": "read: "}, "default_prompt_name": None},
    {"similarity_fn_name": "dot"},
    {"similarity_fn_name": SimilarityFunction.MANHATTAN},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=",".join)
def test_what_is_set_on_it_does_as_there(settings: dict[str, Any], compiled: Compiled) -> None:
    ours, theirs = _both(compiled)
    for name, value in settings.items():
        setattr(ours, name, value)
        setattr(theirs, name, value)
    again = pickle.loads(pickle.dumps(ours))
    for model in (ours, again):
        for method in ("encode", "encode_query", "encode_document"):
            np.testing.assert_allclose(getattr(model, method)(TEXTS), getattr(theirs, method)(TEXTS), atol=5e-6)
        vectors = model.encode(TEXTS)
        np.testing.assert_allclose(model.similarity(vectors, vectors), theirs.similarity(vectors, vectors), atol=1e-4)
        assert model.get_embedding_dimension() == theirs.get_embedding_dimension()
        assert model.similarity_fn_name == theirs.similarity_fn_name


def test_a_prompt_that_is_changed_in_place_is_taken(compiled: Compiled) -> None:
    ours, theirs = _both(compiled)
    for model in (ours, theirs):
        model.prompts["query"] = "another: "
    np.testing.assert_allclose(ours.encode_query(TEXTS), theirs.encode_query(TEXTS), atol=5e-6)
    assert "another: " not in stcompile.SentenceTransformer(compiled(CASE)).prompts.values()


def test_a_context_truncates_as_there(compiled: Compiled) -> None:
    ours, theirs = _both(compiled)
    with ours.truncate_embeddings(8), theirs.truncate_embeddings(8):
        np.testing.assert_allclose(ours.encode(TEXTS), theirs.encode(TEXTS), atol=5e-6)
    assert ours.encode(TEXTS).shape == theirs.encode(TEXTS).shape


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("max_seq_length", 1000, "compiled to have at most .* tokens, and max_seq_length=1000 is more: set it on the"),
        ("max_seq_length", 0, "max_seq_length must be a whole number"),
        ("truncate_dim", 0, "truncate_dim must be a whole number"),
        ("prompts", ["a"], "prompts must be a dict of names and texts, got list"),
        ("prompts", {"a": 3}, "prompt must be text, got int"),
        ("default_prompt_name", "no", "unknown default prompt 'no'"),
        ("similarity_fn_name", "maxsim", "unknown similarity_fn_name 'maxsim'"),
        ("tokenizer", None, "has no tokenizer: texts are tokenized in encode"),
    ],
)
def test_what_cannot_be_set_says_why(name: str, value: Any, says: str, compiled: Compiled) -> None:
    ours = stcompile.SentenceTransformer(compiled(CASE))
    with pytest.raises(InputError, match=says):
        setattr(ours, name, value)
    # What it has already may be set.
    ours.max_seq_length = ours.get_max_seq_length()


LONG = [*TEXTS, "The quick brown fox jumps over the lazy dog, " * 9]


# How texts are cut, and what is put around them, is each front end's own.
CUT = (
    CASE,
    "pool_lasttoken_leftpad",
    "pool_cls_exclude_prompt",
    "truncation_side_left",
    "chat_template_saved_by_st",
    "backbone_qwen3_lasttoken",
    "router_two_encoders",
    "wordemb_mean",
)


@pytest.mark.parametrize("case", CUT)
def test_texts_are_cut_shorter_and_not_any_more(case: str, compiled: Compiled) -> None:
    ours = stcompile.SentenceTransformer(compiled(case), threads=1)
    theirs = SentenceTransformer(str(MODELS / case), device="cpu", local_files_only=True)
    whole, most = ours.encode(LONG), ours.max_seq_length
    for length in (2, 3, 7, most):
        ours.max_seq_length = theirs.max_seq_length = length
        assert ours.max_seq_length == length
        np.testing.assert_allclose(ours.encode(LONG), theirs.encode(LONG), atol=5e-6)
        assert np.array_equal(pickle.loads(pickle.dumps(ours)).encode(LONG), ours.encode(LONG))
    ours.max_seq_length = None
    assert ours.max_seq_length == most
    assert np.array_equal(ours.encode(LONG), whole)


@pytest.mark.parametrize("case", ["static", "bow_binary"])
def test_where_there_is_no_limit_none_is_set(case: str, compiled: Compiled) -> None:
    ours = stcompile.SentenceTransformer(compiled(case), threads=1)
    with pytest.raises(InputError, match="texts of this model are as long as they are"):
        ours.max_seq_length = 3
    ours.max_seq_length = None


def test_texts_are_not_cut_by_another_tokenizer(compiled: Compiled, tmp_path: Path) -> None:
    folder = shutil.copytree(compiled(CASE), tmp_path / "artifact")
    ours = stcompile.SentenceTransformer(folder, threads=1)
    shutil.rmtree(folder)
    with pytest.raises(ArtifactError, match="holds another artifact than when the encoder was loaded: load it again"):
        ours.max_seq_length = 3
    assert ours.max_seq_length == stcompile.SentenceTransformer(compiled(CASE)).max_seq_length


def test_it_moves_as_far_as_there_is_a_place(compiled: Compiled) -> None:
    ours = stcompile.SentenceTransformer(compiled(CASE))
    assert ours.cpu() is ours
    assert ours.supports("text")
    assert not ours.supports("image")
    for device in (None, 1, "cuda:1"):
        with pytest.raises(InputError, match="it computes on cpu: make one with device='cuda"):
            ours.cuda(device)


def test_each_name_of_the_installed_release_is_there_or_left_out_with_a_remedy(compiled: Compiled) -> None:
    ours = stcompile.SentenceTransformer(compiled(CASE))
    here = [kind for kind in SentenceTransformer.__mro__ if kind.__module__.startswith("sentence_transformers")]
    theirs = {name for kind in here for name in vars(kind) if not name.startswith("_")}
    missing = {name for name in theirs if not hasattr(ours, name)}
    assert {"tokenizer", "tokenize", "preprocess", "start_multi_process_pool", "encode_multi_process"} <= missing
    assert missing - LEFT_OUT.keys() == set()
    assert [name for name in LEFT_OUT if hasattr(ours, name)] == []
    with pytest.raises(InputError, match="has no encode_multi_process: an artifact computes on the threads of one"):
        ours.encode_multi_process(TEXTS, {})
    with pytest.raises(AttributeError, match="object has no attribute 'no_such_name'"):
        _ = ours.no_such_name


def test_each_option_of_the_installed_release_is_known() -> None:
    theirs = set(inspect.signature(SentenceTransformer).parameters)
    ours = set(inspect.signature(stcompile.SentenceTransformer).parameters)
    changing = {"modules", "model_kwargs", "processor_kwargs", "config_kwargs"}
    assert theirs <= ours | _SETTLED | changing
