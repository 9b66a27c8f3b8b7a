"""`stcompile.SentenceTransformer` in the place of sentence-transformers' own: made as it, and with its vectors."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer, SimilarityFunction

import stcompile
from stcompile.errors import ArtifactError, InputError
from stcompile.runtime.drop_in import _SETTLED
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


def test_each_option_of_the_installed_release_is_known() -> None:
    theirs = set(inspect.signature(SentenceTransformer).parameters)
    ours = set(inspect.signature(stcompile.SentenceTransformer).parameters)
    changing = {"modules", "model_kwargs", "processor_kwargs", "config_kwargs"}
    assert theirs <= ours | _SETTLED | changing
