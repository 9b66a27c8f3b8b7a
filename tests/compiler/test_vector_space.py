"""What changes a model's fingerprint, and what does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stcompile.artifact.folder import read_manifest
from stcompile.artifact.space import VectorSpace
from stcompile.artifact.target import TARGETS, Target
from stcompile.compiler.stack.load import load_stack
from stcompile.compiler.stack.source import ModelSource
from stcompile.compiler.vector_space import vector_space
from tests.conftest import GOLDEN, MODELS

CASE = "full_stack"
TARGET = Target.parse("onnx-fp32")

# Of the first schema that has fingerprints, and later ones.
FROZEN = sorted(path.parent for path in (GOLDEN / "artifacts").glob("v*/*/self_test.json"))


def space_of(folder: Path, **options: object) -> VectorSpace:
    return vector_space(load_stack(ModelSource(str(folder), **options)), TARGET)  # type: ignore[arg-type]


def edited(path: Path, **changes: object) -> None:
    body = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**body, **changes}), "utf-8")


def other_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("query.weight"))
    save_file({**tensors, name: tensors[name] + 1e-3}, path, {"format": "pt"})


def other_pooling(folder: Path) -> None:
    (path,) = folder.glob("1_Pooling/config.json")
    edited(path, pooling_mode=["mean", "cls"])


def other_prompts(folder: Path) -> None:
    edited(folder / "config_sentence_transformers.json", prompts={"query": "find: "}, default_prompt_name=None)


def lower_case(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text("utf-8").replace('"lowercase": true', '"lowercase": false'), "utf-8")
    edited(folder / "tokenizer_config.json", do_lower_case=False)


def shorter(folder: Path) -> None:
    edited(folder / "sentence_bert_config.json", max_seq_length=7)


def narrower(folder: Path) -> None:
    edited(folder / "config_sentence_transformers.json", truncate_dim=8)


CHANGES: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "weights": (other_weights, {"weights"}),
    "pooling": (other_pooling, {"modules"}),
    "prompts": (other_prompts, {"prompts"}),
    "length": (shorter, {"tokens"}),
    "letters": (lower_case, {"tokens"}),
    "width": (narrower, {"dim"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_vectors_changes_its_part_alone(change: str, tmp_path: Path) -> None:
    folder = shutil.copytree(MODELS / CASE, tmp_path / "model")
    before = space_of(folder)
    make, parts = CHANGES[change]
    make(folder)
    after = space_of(folder)
    assert {name for name, value in vars(after).items() if value != getattr(before, name)} == parts


def in_bfloat16(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(path).items()}
    save_file(tensors, path, {"format": "pt"})


def test_one_model_has_one_fingerprint_in_whatever_number_type_it_is_stored(tmp_path: Path) -> None:
    half = shutil.copytree(MODELS / CASE, tmp_path / "half")
    in_bfloat16(half)
    copied = shutil.copytree(half, tmp_path / "copied")
    tensors = {name: tensor.to(torch.float32) for name, tensor in load_file(half / "model.safetensors").items()}
    save_file(tensors, copied / "model.safetensors", {"format": "pt"})
    assert space_of(half) == space_of(copied)


def test_a_model_with_and_without_its_image_tower_has_one_space() -> None:
    folder = MODELS / "clip_text"
    assert space_of(folder, modalities=("text",)) == space_of(folder)


@pytest.mark.parametrize("folder", FROZEN, ids=lambda folder: folder.name)
def test_a_fingerprint_is_the_same_in_every_release(folder: Path) -> None:
    """Of this package, and of what it reads models with (`nox --session compiler`)."""
    manifest = read_manifest(folder)
    case = folder.name.removesuffix(f"-{manifest.target}")
    assert vector_space(load_stack(ModelSource(str(MODELS / case))), Target.parse(manifest.target)) == manifest.space


def test_every_target_has_a_precision_that_a_fingerprint_may_have() -> None:
    stack = load_stack(ModelSource(str(MODELS / CASE)))
    assert {vector_space(stack, target).precision for target in TARGETS.values()} <= {
        *("fp32", "fp16", "bf16", "int8", "int4")
    }
