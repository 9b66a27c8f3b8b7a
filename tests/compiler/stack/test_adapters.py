"""Adapters that PEFT trained: the vectors of sentence-transformers, out of a network whose weights hold them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

import stcompile
from stcompile.compiler.inspection import inspect
from stcompile.compiler.modules import Transformer
from stcompile.errors import MissingExtraError, ModelFolderError, StcompileError, UnsupportedError
from tests.conftest import MODELS
from tests.test_golden import FLOAT32_ROUNDING, scaled_error

TEXTS = ["hello world", "a longer text about many things", ""]

Adapted = Callable[..., Path]

LAYERS = {"plain_bert": ["query", "value", "dense"], "backbone_qwen3_lasttoken": ["q_proj", "v_proj", "down_proj"]}


@pytest.fixture
def adapted(tmp_path: Path) -> Adapted:
    """A golden model with an adapter of random numbers, as sentence-transformers saves one, and its base beside it."""
    from sentence_transformers import SentenceTransformer

    def make(config: Any = None, model: str = "plain_bert") -> Path:
        base, folder = tmp_path / "base", tmp_path / "adapter"
        shutil.copytree(MODELS / model, base)
        encoder = SentenceTransformer(str(base), device="cpu")
        layers = LAYERS[model]
        encoder.add_adapter(config or peft.LoraConfig(r=4, lora_alpha=16, target_modules=layers, use_rslora=True))
        torch.manual_seed(5)
        with torch.no_grad():
            for name, parameter in encoder.named_parameters():
                if any(word in name for word in ("lora_A", "lora_B", "hada_", "lokr_")):
                    parameter.normal_(0.0, 0.2)
        encoder.save_pretrained(str(folder), create_model_card=False)
        return folder

    return make


def expected(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu").encode(TEXTS)


@pytest.mark.parametrize(
    ("model", "config"),
    [
        ("plain_bert", None),
        ("backbone_qwen3_lasttoken", None),
        ("plain_bert", peft.LoraConfig(r=4, target_modules=LAYERS["plain_bert"], use_dora=True, bias="all")),
        ("plain_bert", peft.LoHaConfig(r=4, target_modules=LAYERS["plain_bert"])),
    ],
    ids=["lora", "lora-qwen3", "dora", "loha"],
)
def test_the_vectors_are_those_of_sentence_transformers(model: str, config: Any, adapted: Adapted) -> None:
    folder = adapted(config, model)
    found = stcompile.load_stack(folder, follow_links=True).encode(TEXTS)
    reference = expected(folder)
    assert scaled_error(reference, found).max() <= FLOAT32_ROUNDING
    assert np.abs(expected(folder.parent / "base") - reference).max() > 0.1


@pytest.mark.more_models
def test_an_artifact_of_an_adapter_holds_the_base(adapted: Adapted, tmp_path: Path) -> None:
    folder = adapted()
    reference = expected(folder)
    artifact = stcompile.export_model(folder, tmp_path / "artifact", "onnx-fp32", texts=TEXTS, follow_links=True)
    shutil.rmtree(tmp_path / "base")
    found = stcompile.load(artifact.folder).encode(TEXTS)
    assert scaled_error(reference, found).max() <= FLOAT32_ROUNDING


def test_optimums_layout_has_no_place_for_it(adapted: Adapted, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="its network is an adapter of another"):
        stcompile.export_model(adapted(), tmp_path / "out", "onnx-fp32", follow_links=True, layout="optimum")


def test_a_base_in_the_folder_of_the_model_needs_no_leave(
    adapted: Adapted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths are read from where the process is, as transformers reads them."""
    folder = adapted()
    reference = expected(folder)
    (tmp_path / "base").rename(folder / "base")
    edited(folder, base_model_name_or_path="adapter/base")
    monkeypatch.chdir(tmp_path)
    assert scaled_error(reference, stcompile.load_stack(folder).encode(TEXTS)).max() <= FLOAT32_ROUNDING


def test_a_base_elsewhere_is_opened_where_links_are_followed(adapted: Adapted) -> None:
    folder = adapted()
    with pytest.raises(UnsupportedError, match=r"a base outside the folder, .*base: pass --follow-links"):
        stcompile.load_stack(folder)
    assert not inspect(folder)["compiles"]
    assert inspect(folder, follow_links=True)["compiles"]


def edited(folder: Path, **values: object) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **values}), encoding="utf-8")


def with_a_head(folder: Path) -> None:
    """As an adapter of a network for something else has it."""
    file = folder / "adapter_model.safetensors"
    save_file({name.replace("model.", "model.bert.", 1): tensor for name, tensor in load_file(file).items()}, file)


@pytest.mark.parametrize(
    ("damage", "error", "reason"),
    [
        (
            lambda folder: edited(folder, peft_type="PROMPT_TUNING"),
            UnsupportedError,
            "type PROMPT_TUNING, .*merge_and_unload",
        ),
        (lambda folder: edited(folder, base_model_name_or_path=None), ModelFolderError, "does not name its base"),
        (lambda folder: edited(folder, base_model_name_or_path="/nowhere"), ModelFolderError, "nowhere"),
        (lambda folder: edited(folder, r=5), ModelFolderError, "does not fit its base"),
        (with_a_head, ModelFolderError, "weights for parts that its base has not, such as .*bert.*on one with a head"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), ModelFolderError, "copy the adapter again"),
        (
            lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"cut"),
            ModelFolderError,
            "does not fit its base",
        ),
        (lambda folder: (folder / "modules.json").unlink(), UnsupportedError, "it is an adapter alone"),
    ],
)
def test_what_is_no_adapter_of_its_base_is_one_sentence(
    damage: Callable[[Path], object], error: type[StcompileError], reason: str, adapted: Adapted
) -> None:
    folder = adapted()
    damage(folder)
    with pytest.raises(error, match=reason) as raised:
        stcompile.load_stack(folder, follow_links=True)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["{}", "[]", "{"])
def test_a_network_by_itself_whose_adapter_names_no_base(text: str, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelFolderError, match="does not name its base"):
        Transformer(tmp_path)


def test_without_peft(adapted: Adapted, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = adapted()
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"Reading an adapter .*stcompile\[peft\]"):
        stcompile.load_stack(folder, follow_links=True)
