"""Folders of multi-vector encoders: what sentence-transformers makes of odd ones, or one sentence and its remedy."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.multi_vector_encoder.modules import LambdaTokenPooling

import stcompile
from stcompile.artifact.manifest import MULTI_VECTOR
from stcompile.compiler.modules import MultiVectorMask
from stcompile.compiler.stack.describe import describe
from stcompile.compiler.stack.load import load_stack
from stcompile.errors import ModelFolderError, UnsupportedError
from tests.conftest import MODELS, load_case

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


@pytest.mark.parametrize("prompts", [{"query": 5}, [1], "x"])
def test_prompts_that_are_no_texts_are_named(prompts: Any, tmp_path: Path) -> None:
    folder = copied("multi_vector_pylate", tmp_path)
    edit(folder, "config_sentence_transformers.json", lambda settings: {**settings, "prompts": prompts})
    with pytest.raises(ModelFolderError, match=r"prompts in config_sentence_transformers.* must map names to texts"):
        describe(folder)


@pytest.mark.parametrize("change", [lambda _: {}, lambda _: {"prompts": {"query": "", "document": ""}}])
def test_a_folder_that_does_not_say_what_it_is_but_lists_a_mask(change: Change, tmp_path: Path) -> None:
    folder = copied("multi_vector_fixed", tmp_path)
    edit(folder, "config_sentence_transformers.json", change)
    assert describe(folder).settings.kind == MULTI_VECTOR
    expected, found = load_stack(MODELS / "multi_vector_fixed"), load_stack(folder)
    for task in ("query", "document"):
        for ours, theirs in zip(found.encode(TEXTS, task=task), expected.encode(TEXTS, task=task), strict=True):
            assert np.array_equal(ours, theirs)


def test_a_model_type_that_is_null_is_named(tmp_path: Path) -> None:
    folder = copied("multi_vector_pylate", tmp_path)
    edit(folder, "config_sentence_transformers.json", lambda settings: {**settings, "model_type": None})
    (reason,) = describe(folder).unsupported
    assert reason.startswith("it is a model of type None: stcompile compiles SentenceTransformer, ")


def test_a_marker_that_is_no_token_is_named(tmp_path: Path) -> None:
    folder = copied("multi_vector_stanford", tmp_path)
    edit(folder, "artifact.metadata", lambda stored: {**stored, "query_token_id": 5})
    edit(folder, "config.json", lambda config: {**config, "architectures": "HF_ColBERT"})
    assert describe(folder).unsupported == ("its query_token_id in artifact.metadata is 5: it must be a token",)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"query_expansion": None, "query_length": 1}, "its query_length 1 is less than the 2 special tokens"),
        ({"document_length": 1}, "its document_length 1 is less than the 2 special tokens"),
        ({"query_expansion": {"strategy": "fixed", "length": 1}}, "its query_expansion.length 1 is less than the 2"),
        ({"query_expansion": {"strategy": "min", "length": 100}}, "is 100, and it has 64 positions: lower it"),
    ],
)
def test_lengths_without_room_are_named(changed: dict[str, Any], says: str, tmp_path: Path) -> None:
    folder = copied("multi_vector_fixed", tmp_path)
    edit(folder, "sentence_bert_config.json", lambda config: {**config, **changed})
    with pytest.raises(UnsupportedError, match=re.escape(says)):
        load_stack(folder)


def test_tokens_that_would_see_nothing_are_refused(tmp_path: Path) -> None:
    """Of a local window that ends before them: what is made of nothing, each way of attention decides for itself."""
    folder = copied("multi_vector_modernbert", tmp_path)
    longer = {"strategy": "fixed", "attend": False, "length": 7}
    edit(folder, "sentence_bert_config.json", lambda config: {**config, "query_expansion": longer})
    with pytest.raises(UnsupportedError, match=r"up to 7 tokens .* see 4 tokens to either side.* set attend to true"):
        load_stack(folder)
    attended = {**longer, "attend": True}
    edit(folder, "sentence_bert_config.json", lambda config: {**config, "query_expansion": attended})
    assert_read_as_they_do(folder)


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


def test_live_objects_that_pool_tokens() -> None:
    """In half precision, where a rounding decides which vectors join; and by a function, which no folder holds."""
    path = str(MODELS / "multi_vector_pooled")
    model = MultiVectorEncoder(path, device="cpu", model_kwargs={"dtype": torch.bfloat16})
    assert load_stack(model).kind == MULTI_VECTOR
    assert model[-1].tasks == ["document"]
    model.append(LambdaTokenPooling(lambda vectors: vectors[:1]))
    with pytest.raises(UnsupportedError, match="one of its modules cannot be saved"):
        load_stack(model)


def test_a_live_object_is_compiled_and_what_no_folder_holds_is_refused() -> None:
    model = MultiVectorEncoder(str(MODELS / "multi_vector_fixed"), device="cpu")
    assert load_stack(model).kind == MULTI_VECTOR
    model[2].keep_only_token_ids = [2, 3]
    assert load_stack(model).routes
    model[1].linear.weight.data *= 2
    model[0].tokenizer.padding_side = "left"
    with pytest.raises(UnsupportedError, match=r"in front|live object"):
        load_stack(model)


def test_a_stack_that_is_built_leaves_out_its_skip_words() -> None:
    blocks = [*load_stack(MODELS / "multi_vector_fixed").blocks]
    assert isinstance(blocks[2], MultiVectorMask)
    blocks[2] = MultiVectorMask(blocks[2].skiplist_words)
    built = stcompile.ModuleStack(blocks, kind=MULTI_VECTOR, similarity="maxsim")
    expected = load_case("multi_vector_fixed").ragged("encode_document")
    found = built.encode(load_case("multi_vector_fixed").texts, task="document")
    assert [rows.shape for rows in found] == [rows.shape for rows in expected]


def test_inspect_says_what_it_becomes() -> None:
    from stcompile.compiler.inspection import inspect

    found = inspect(MODELS / "multi_vector_stanford")
    assert found["becomes"] == MULTI_VECTOR
    assert [module["type"] for module in found["modules"]] == ["Transformer", "Dense", "MultiVectorMask", "Normalize"]
    assert found["similarity"] == "maxsim"
    assert stcompile.MultiVectorEncoder.kind == MULTI_VECTOR
