"""Folders of multi-vector encoders: what sentence-transformers makes of odd ones, or one sentence and its remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import MultiVectorEncoder

import stcompile
from stcompile.artifact.manifest import MULTI_VECTOR
from stcompile.compiler.stack.describe import describe
from stcompile.compiler.stack.load import load_stack
from stcompile.errors import ModelFolderError, UnsupportedError
from tests.conftest import MODELS

TEXTS = ["hello world!", "The quick brown fox, jumps.", "one two three four five " * 20]

# As tests/test_golden_multi_vectors.py.
ROUNDING = 2e-6

Change = Callable[[dict[str, Any]], dict[str, Any]]


def copied(name: str, place: Path) -> Path:
    return Path(shutil.copytree(MODELS / name, place / "model"))


def edit(folder: Path, name: str, change: Change) -> None:
    path = folder / name
    path.write_text(json.dumps(change(json.loads(path.read_text("utf-8")))), "utf-8")


def assert_read_as_they_do(folder: Path) -> None:
    model, stack = MultiVectorEncoder(str(folder), device="cpu"), load_stack(folder)
    assert stack.kind == MULTI_VECTOR
    for task in ("query", "document", None):
        prompt = "" if task is None else stack.prompts[task]
        assert prompt == ("" if task is None else (model.prompts.get(task) or ""))
        found = stack.encode(TEXTS, prompt, task=task)
        for ours, theirs in zip(
            found, model.encode(TEXTS, prompt=prompt, task=task, convert_to_numpy=True), strict=True
        ):
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs).max(initial=0) <= ROUNDING


def older_pylates(settings: dict[str, Any]) -> dict[str, Any]:
    """Before PyLate said what its models are."""
    return {name: value for name, value in settings.items() if name not in ("model_type", "skiplist_words")}


@pytest.mark.parametrize(
    "change",
    [
        older_pylates,
        lambda settings: {**settings, "do_query_expansion": None, "query_length": None, "document_length": None},
        lambda settings: {**settings, "query_expansion": None},
        lambda settings: {**settings, "query_expansion": {"strategy": "min", "length": 6}, "query_length": 9},
        lambda settings: {**settings, "prompts": {"query": "[Q] find ", "document": None}},
    ],
)
def test_settings_of_pylate_are_read_as_they_do(change: Change, tmp_path: Path) -> None:
    folder = copied("multi_vector_pylate", tmp_path)
    edit(folder, "config_sentence_transformers.json", change)
    assert_read_as_they_do(folder)


def test_metadata_of_stanford_is_read_as_they_do(tmp_path: Path) -> None:
    folder = copied("multi_vector_stanford", tmp_path)
    edit(
        folder, "artifact.metadata", lambda stored: {**stored, "attend_to_mask_tokens": True, "mask_punctuation": False}
    )
    assert_read_as_they_do(folder)


@pytest.mark.parametrize(
    ("name", "file", "change", "says"),
    [
        (
            "multi_vector_fixed",
            "sentence_bert_config.json",
            lambda config: {**config, "query_expansion": {"strategy": "longest", "length": 4}},
            r"query_expansion.strategy is 'longest': it must be fixed or min",
        ),
        (
            "multi_vector_fixed",
            "sentence_bert_config.json",
            lambda config: {**config, "query_length": 5},
            "query_length 5 is less than the 12 tokens that query_expansion makes",
        ),
        (
            "multi_vector_fixed",
            "sentence_bert_config.json",
            lambda config: {**config, "query_expansion": {"strategy": "fixed", "length": -1}},
            "query_expansion.length is -1: it must be a positive whole number",
        ),
        (
            "multi_vector_fixed",
            "2_MultiVectorMask/config.json",
            lambda config: {**config, "skiplist_words": "a"},
            "skiplist_words must be a list of words",
        ),
        (
            "multi_vector_pooled",
            "4_HierarchicalTokenPooling/config.json",
            lambda config: {**config, "pool_factor": 0},
            "pool_factor is 0: it must be a number from 1",
        ),
        (
            "multi_vector_pylate",
            "config_sentence_transformers.json",
            lambda settings: {**settings, "query_length": "many"},
            "query_expansion.length is 'many': it must be a positive whole number",
        ),
        (
            "multi_vector_pylate",
            "config_sentence_transformers.json",
            lambda settings: {**settings, "skiplist_words": [1]},
            "skiplist_words must be a list of words",
        ),
    ],
)
def test_a_wrong_setting_is_named(name: str, file: str, change: Change, says: str, tmp_path: Path) -> None:
    folder = copied(name, tmp_path)
    edit(folder, file, change)
    (reason,) = describe(folder).unsupported
    assert says in reason


def test_a_prefix_that_is_no_text_is_named(tmp_path: Path) -> None:
    folder = copied("multi_vector_pylate", tmp_path)
    edit(folder, "config_sentence_transformers.json", lambda settings: {**settings, "query_prefix": 3})
    with pytest.raises(ModelFolderError, match=r"query_prefix in config_sentence_transformers\.json must be text"):
        describe(folder)


def test_a_missing_layer_of_stanford_is_named(tmp_path: Path) -> None:
    folder = copied("multi_vector_stanford", tmp_path)
    shutil.copy(MODELS / "plain_bert" / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(ModelFolderError, match=r"has no matrix linear\.weight among its weights"):
        load_stack(folder)


@pytest.mark.parametrize(
    ("expansion", "says"),
    [
        ({"token": "nothing"}, "query_expansion.token 'nothing' is no token of its tokenizer"),
        ({}, "would fill queries up in front, where it pads|fills queries up in front, where its tokenizer pads"),
    ],
)
def test_queries_that_cannot_be_made_longer_are_refused(expansion: dict[str, Any], says: str, tmp_path: Path) -> None:
    folder = copied("multi_vector_bert", tmp_path)
    longer = {"strategy": "fixed", "length": 8, **expansion}
    edit(folder, "sentence_bert_config.json", lambda config: {**config, "query_expansion": longer})
    if not expansion:
        edit(folder, "tokenizer_config.json", lambda config: {**config, "padding_side": "left"})
    with pytest.raises(UnsupportedError, match=says):
        load_stack(folder)


def test_a_mask_and_a_pooling_are_where_the_graph_ends(tmp_path: Path) -> None:
    folder = copied("multi_vector_pooled", tmp_path)

    def moved(rows: Any) -> Any:
        *others, mask, norm, pooling = rows
        return [*others, mask, pooling, norm]

    edit(folder, "modules.json", moved)
    with pytest.raises(
        UnsupportedError, match=r"module 3 \(HierarchicalTokenPooling\) makes vectors fewer, and something"
    ):
        load_stack(folder)
    edit(
        folder, "config_sentence_transformers.json", lambda settings: {**settings, "model_type": "SentenceTransformer"}
    )
    with pytest.raises(UnsupportedError, match=r"module 2 \(MultiVectorMask\) is of multi-vector encoders"):
        load_stack(folder)


def test_a_live_object_is_compiled_and_what_no_folder_holds_is_refused() -> None:
    model = MultiVectorEncoder(str(MODELS / "multi_vector_fixed"), device="cpu")
    assert load_stack(model).kind == MULTI_VECTOR
    model[2].keep_only_token_ids = [2, 3]
    assert load_stack(model).routes
    model[1].linear.weight.data *= 2
    model[0].tokenizer.padding_side = "left"
    with pytest.raises(UnsupportedError, match=r"in front|live object"):
        load_stack(model)


def test_inspect_says_what_it_becomes() -> None:
    from stcompile.compiler.inspection import inspect

    found = inspect(MODELS / "multi_vector_stanford")
    assert found["becomes"] == MULTI_VECTOR
    assert [module["type"] for module in found["modules"]] == ["Transformer", "Dense", "MultiVectorMask", "Normalize"]
    assert found["similarity"] == "maxsim"
    assert stcompile.MultiVectorEncoder.kind == MULTI_VECTOR
