"""Folders of sparse encoders: what makes them that, what is read, and what is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SparseEncoder

import stcompile
from stcompile.artifact.manifest import ENCODER, SPARSE
from stcompile.compiler.inspection import inspect
from stcompile.compiler.modules import Router, SpladePooling
from stcompile.compiler.stack.describe import describe
from stcompile.compiler.stack.save import save_stack
from stcompile.errors import InputError, ModelFolderError, UnsupportedError
from tests.conftest import MODELS, transformer_of

SETTINGS = "config_sentence_transformers.json"
Edited = Callable[..., Path]


@pytest.fixture
def edited(tmp_path: Path) -> Edited:
    """A golden folder with other keys in a JSON file; None takes one out."""

    def copy(case: str, file: str, **keys: Any) -> Path:
        folder = tmp_path / case
        if not folder.exists():
            shutil.copytree(MODELS / case, folder)
        path = folder / file
        stored = json.loads(path.read_text(encoding="utf-8")) | keys
        path.write_text(json.dumps({key: value for key, value in stored.items() if value is not None}), "utf-8")
        return folder

    return copy


def test_it_says_so_or_has_such_modules(edited: Edited) -> None:
    assert describe(MODELS / "sparse_splade").settings.kind == SPARSE
    assert describe(edited("sparse_csr", SETTINGS, model_type=None)).settings.kind == SPARSE
    assert describe(edited("sparse_router", SETTINGS, model_type=None)).settings.kind == SPARSE
    assert describe(edited("pool_mean", SETTINGS, model_type=None)).settings.kind == ENCODER
    assert inspect(MODELS / "sparse_csr")["becomes"] == SPARSE


def test_similarity_and_number_of_dimensions(edited: Edited) -> None:
    found = describe(MODELS / "sparse_splade").settings
    assert (found.similarity, found.max_active_dims) == ("dot", None)
    assert describe(MODELS / "sparse_csr").settings.max_active_dims == 12
    assert describe(edited("sparse_csr", SETTINGS, max_active_dims=None)).settings.max_active_dims == 12
    assert describe(edited("sparse_csr", SETTINGS, max_active_dims=3)).settings.max_active_dims == 3
    assert describe(MODELS / "sparse_splade_prompts").settings.similarity == "cosine"
    # A part of a vocabulary is no vector.
    assert describe(edited("sparse_splade", SETTINGS, truncate_dim=8)).settings.truncate_dim is None


@pytest.mark.parametrize(
    ("case", "file", "keys", "says"),
    [
        ("sparse_splade", SETTINGS, {"max_active_dims": 0}, "max_active_dims is 0: it must be a positive"),
        ("sparse_splade", "1_SpladePooling/config.json", {"pooling_strategy": "mean"}, "must be one of max, sum"),
        ("sparse_splade", "1_SpladePooling/config.json", {"activation_function": "x"}, "one of relu, log1p_relu"),
        ("sparse_csr", "2_SparseAutoEncoder/config.json", {"k": 97}, "its k is 97, and there are 96 dimensions"),
        ("sparse_csr", "2_SparseAutoEncoder/config.json", {"k": True}, "its k is True: it must be a positive whole"),
        ("sparse_csr", "2_SparseAutoEncoder/config.json", {"normalize": 1}, "its normalize must be true or false"),
        ("sparse_static", "config.json", {"path": 3}, "its path is 3: it must name a file"),
    ],
)
def test_wrong_configurations_are_named(case: str, file: str, keys: dict[str, Any], says: str, edited: Edited) -> None:
    assert says in " ".join(describe(edited(case, file, **keys)).unsupported)


@pytest.mark.parametrize(
    ("case", "file", "keys", "says"),
    [
        ("sparse_splade", "sentence_bert_config.json", {"transformer_task": None}, "nothing before it makes any"),
        ("sparse_csr", "2_SparseAutoEncoder/config.json", {"hidden_dim": 80, "k": 5}, "do not fit its configuration"),
        ("sparse_csr", "2_SparseAutoEncoder/config.json", {"input_dim": 31}, "do not fit its configuration"),
        ("sparse_static", "config.json", {"path": "idf.json"}, "has no idf.json, which holds its weights"),
        ("sparse_static", "config.json", {"path": "../idf.json"}, "is outside the folder"),
    ],
)
def test_folders_that_do_not_fit_are_refused(
    case: str, file: str, keys: dict[str, Any], says: str, edited: Edited
) -> None:
    with pytest.raises((ModelFolderError, UnsupportedError), match=says):
        stcompile.load_stack(edited(case, file, **keys))


def test_weights_of_tokens_in_a_json_file(edited: Edited, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = edited("sparse_static", "config.json", path="idf.json")
    (folder / "model.safetensors").unlink()
    weights = {"the": 2.5, "dog": -1, "hello": 0.0, "no such word": 9.0}
    (folder / "idf.json").write_text(json.dumps(weights), encoding="utf-8")
    # sentence-transformers looks from where it is started.
    monkeypatch.chdir(folder)
    texts = ["the dog", "hello", "the the the fox"]
    expected = SparseEncoder(str(folder), device="cpu").encode(texts).to_dense().numpy()
    assert np.array_equal(stcompile.load_stack(folder).encode(texts), expected)
    for content in ('{"the": "much"}', "[1]"):
        (folder / "idf.json").write_text(content, encoding="utf-8")
        with pytest.raises(ModelFolderError, match="must map tokens to numbers"):
            stcompile.load_stack(folder)


def test_the_last_layer_is_taken_over_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    from stcompile.compiler.modules import splade_pooling

    texts = ["hello world", "the quick brown fox"]
    stack = stcompile.load_stack(MODELS / "sparse_splade")
    monkeypatch.setattr(splade_pooling, "BLOCK", 100)
    blocks = stcompile.load_stack(MODELS / "sparse_splade")
    monkeypatch.setattr(SpladePooling, "stands_behind", lambda *_: None)
    whole = stcompile.load_stack(MODELS / "sparse_splade")
    sizes = [
        [] if splade.blocks is None else [block.out_features for block in splade.blocks]
        for splade in (module for item in (stack, blocks, whole) for module in item.modules())
        if isinstance(splade, SpladePooling)
    ]
    assert sizes == [[341], [100, 100, 100, 41], []]
    assert transformer_of(stack).out_width(0) == 32
    assert transformer_of(whole).out_width(0) == stack.dim == blocks.dim == whole.dim == 341
    for item in (stack, blocks):
        np.testing.assert_allclose(item.encode(texts), whole.encode(texts), atol=1e-6)


@pytest.mark.parametrize("strategy", ["max", "sum"])
def test_padding_is_nothing(strategy: str) -> None:
    """As in sentence-transformers, also of a text that is nothing else."""
    from sentence_transformers.sparse_encoder.modules import SpladePooling as Theirs

    logits = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)) * 3
    features = {"token_embeddings": logits, "attention_mask": torch.tensor([[1, 1, 0, 0], [0, 0, 0, 1], [0] * 4])}
    found = SpladePooling(strategy)(features)["sentence_embedding"]
    assert not found[2].any()
    copy = {name: value.clone() for name, value in features.items()}
    with torch.inference_mode():
        expected = Theirs(strategy).eval()(copy)["sentence_embedding"]
    torch.testing.assert_close(found, expected)


def test_a_network_that_others_read_too_keeps_its_last_layer(tmp_path: Path) -> None:
    stack = stcompile.load_stack(MODELS / "sparse_router")
    router = next(module for module in stack.modules() if isinstance(module, (Router, SpladePooling)))
    assert router is not None
    assert stack.routes["document"].front.out_width(0) == 32


def test_the_largest_are_chosen_in_the_end_and_of_sparse_encoders_alone(edited: Edited) -> None:
    with pytest.raises(UnsupportedError, match="makes sparse vectors, and its settings say encoder: set model_type to"):
        stcompile.load_stack(edited("sparse_csr", SETTINGS, model_type="SentenceTransformer"))
    folder = edited("sparse_csr", SETTINGS, model_type="SparseEncoder")
    rows = json.loads((folder / "modules.json").read_text("utf-8"))
    (folder / "3_Normalize").mkdir()
    normalize = {"idx": 3, "name": "3", "path": "3_Normalize", "type": "sentence_transformers.models.Normalize"}
    (folder / "modules.json").write_text(json.dumps([*rows, normalize]), "utf-8")
    with pytest.raises(UnsupportedError, match="keeps the largest numbers, and something stands behind it: end the"):
        stcompile.load_stack(folder)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target": "static"}, "static embeddings are dense: choose another target"),
        ({"target": "onnx-fp32", "outputs": ("sentence_embedding", "token_embeddings")}, "no token_embeddings"),
    ],
)
def test_what_such_a_model_has_not_is_refused(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    target = options.pop("target")
    with pytest.raises(UnsupportedError, match=says):
        stcompile.export_model(MODELS / "sparse_splade", tmp_path / "out", target, texts=["a"], **options)


def test_only_sentence_transformers_writes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a sparse encoder, which only sentence-transformers writes"):
        save_stack(stcompile.load_stack(MODELS / "sparse_static"), tmp_path / "out")


@pytest.mark.more_models
def test_a_live_object_is_its_folder(tmp_path: Path) -> None:
    live = SparseEncoder(str(MODELS / "sparse_csr"), device="cpu")
    artifact = stcompile.export_model(live, tmp_path / "out", "onnx-fp32", texts=["hello world", "a dog"])
    found = stcompile.SparseEncoder.load(artifact.folder, threads=1).encode(["hello world"])
    assert found.shape == (1, 96)
    np.testing.assert_allclose(found.toarray(), live.encode(["hello world"]).to_dense().numpy(), atol=2e-5)
