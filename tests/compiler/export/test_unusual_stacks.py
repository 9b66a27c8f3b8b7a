"""Valid stacks that are rarely seen: the vectors of sentence-transformers on the same folder, or refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules

import stcompile
from stcompile.artifact.report import read_report
from stcompile.compiler.stack.describe import describe
from stcompile.compiler.stack.load import load_stack
from stcompile.errors import InputError
from tests.conftest import MODELS

TEXTS = ["hello", "The quick brown fox jumps over the lazy dog.", "one two three four five " * 12]

# Float32 rounding of two orders of the same sums. Measured: 5e-7.
ROUNDING = 5e-6


def alone(model: Any, texts: list[str], **options: Any) -> Any:
    """One by one: padding is none of these tests' matter."""
    return np.concatenate([model.encode([text], **options) for text in texts])


def with_json(path: Path, **keys: Any) -> None:
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**found, **keys}), encoding="utf-8")


@pytest.mark.parametrize("target", ["onnx-fp32", pytest.param("onnx-int8", marks=pytest.mark.more_models)])
def test_routes_of_which_one_alone_becomes_operators(target: str, tmp_path: Path) -> None:
    """A text without any token has a row of padding as its cls token, which operators do not make."""
    decoder = modules.Transformer(str(MODELS / "backbone_qwen3_no_eos"))
    encoder = modules.Transformer(str(MODELS / "plain_bert"))
    routes = {
        "query": [decoder, modules.Pooling(32, "cls")],
        "document": [encoder, modules.Pooling(32, "mean")],
    }
    model = SentenceTransformer(modules=[modules.Router(routes)], device="cpu")
    model.save(str(tmp_path / "model"), create_model_card=False)
    artifact = stcompile.export_model(tmp_path / "model", tmp_path / "artifact", target, texts=TEXTS, calibration=None)
    (layers,) = [one for one in read_report(artifact).passes if one.name == "encoder-layers"]
    assert layers.rewrites > 0
    assert "rows of padding become part of its output, and the operator makes none of them" in layers.refusals
    if target == "onnx-fp32":
        compiled = stcompile.load(artifact.folder, threads=1)
        for task in ("query", "document"):
            assert np.abs(compiled.encode(TEXTS, task=task) - alone(model, TEXTS, task=task)).max() <= ROUNDING


def test_a_limit_that_leaves_no_room_for_pairs(tmp_path: Path) -> None:
    """Texts are cut at 3 tokens, of which a pair has 4 of its own: a model of single texts all the same."""
    folder = Path(shutil.copytree(MODELS / "backbone_xlmr", tmp_path / "model"))
    with_json(folder / "tokenizer_config.json", model_max_length=3)
    model = SentenceTransformer(str(folder), device="cpu")
    assert model.max_seq_length == 3
    artifact = stcompile.export_model(folder, tmp_path / "artifact", "onnx-fp32", texts=TEXTS)
    compiled = stcompile.load(artifact.folder, threads=1)
    assert compiled.max_seq_length == 3
    assert np.abs(compiled.encode(TEXTS) - alone(model, TEXTS)).max() <= ROUNDING
    with pytest.raises(InputError, match="cut at 3 tokens, fewer than the 4 that a pair of texts has of its own"):
        compiled.encode([("hello", "fox")])


@pytest.mark.parametrize("name", ["Softmax", "Softmin", "LogSoftmax"])
def test_an_activation_across_the_texts_of_a_batch_is_refused(name: str, tmp_path: Path) -> None:
    """Of three axes torch takes the first, that of the texts, where a folder has kept none."""
    folder = Path(shutil.copytree(MODELS / "dense_token_level", tmp_path / "model"))
    (config,) = folder.glob("*Dense/config.json")
    with_json(config, activation_function=f"torch.nn.modules.activation.{name}")
    model = SentenceTransformer(str(folder), device="cpu")
    together = model.encode(["hello", "hello", "hello"], batch_size=3)
    assert np.abs(together[0] - model.encode("hello")).max() > 0.1
    (reason,) = describe(folder).unsupported
    assert reason == (
        f"module 1 (Dense): its activation 'torch.nn.modules.activation.{name}' is over token_embeddings, where "
        "sentence-transformers computes it across the texts of a batch, since a folder stores no axis: move it behind "
        "the pooling, or compute it in a module of its own"
    )


def test_such_an_activation_of_pylate_is_refused(tmp_path: Path) -> None:
    """Its folders do not say that the layer is of tokens."""
    folder = Path(shutil.copytree(MODELS / "multi_vector_pylate", tmp_path / "model"))
    with_json(folder / "1_Dense" / "config.json", activation_function="torch.nn.modules.activation.Softmax")
    (reason,) = describe(folder).unsupported
    assert reason.startswith("module 1 (Dense): its activation 'torch.nn.modules.activation.Softmax' is over token_emb")


@pytest.mark.parametrize(
    ("case", "file", "keys"),
    [
        ("full_stack", "1_Pooling/config.json", {"embedding_dimension": 99}),
        ("weighted_layer_pooling", "1_WeightedLayerPooling/config.json", {"embedding_dimension": 99}),
        ("full_stack", "sentence_bert_config.json", {"do_lower_case": None}),
    ],
    ids=["width of Pooling", "width of WeightedLayerPooling", "no do_lower_case"],
)
def test_what_changes_nothing_is_taken(case: str, file: str, keys: dict[str, Any], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / case, tmp_path / "model"))
    with_json(folder / file, **keys)
    expected = alone(SentenceTransformer(str(folder), device="cpu"), TEXTS)
    stack = load_stack(folder)
    assert stack.dim == expected.shape[1]
    assert np.abs(stack.encode(TEXTS) - expected).max() <= ROUNDING


def test_a_pooling_without_a_mode_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "pool_mean", tmp_path / "model"))
    with_json(folder / "1_Pooling" / "config.json", pooling_mode=[])
    with pytest.raises(ValueError, match="non-empty"):
        SentenceTransformer(str(folder), device="cpu").encode("hello")
    (reason,) = describe(folder).unsupported
    assert reason.startswith("module 1 (Pooling): it has no pooling mode: the modes are cls, max, mean")
