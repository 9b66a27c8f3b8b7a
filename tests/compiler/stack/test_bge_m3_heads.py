"""Heads of FlagEmbedding beside a model's modules: read, described, and one sentence for what is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import stcompile
from stcompile.compiler.stack.describe import describe
from stcompile.errors import ModelFolderError
from tests.conftest import MODELS
from tests.hybrid import CASE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODELS / CASE, tmp_path / "model"))


def test_they_are_three_modules_more(folder: Path) -> None:
    entries = describe(folder).entries
    assert [entry.kind.name for entry in entries] == [
        "Transformer",
        "Pooling",
        "Normalize",
        "Dense",
        "Dense",
        "Normalize",
    ]
    assert entries[3].kind.shown(entries[3].config) == {
        "file": "sparse_linear.pt",
        "module_output_name": "token_weights",
    }


@pytest.mark.parametrize("missing", ["sparse_linear.pt", "colbert_linear.pt"])
def test_of_one_alone_there_is_none(missing: str, folder: Path) -> None:
    (folder / missing).unlink()
    assert len(describe(folder).entries) == 3
    assert not stcompile.load_stack(folder).route(None).makes("token_weights")


def test_half_precision_and_another_width(folder: Path) -> None:
    state = torch.load(folder / "colbert_linear.pt", weights_only=True)
    half = {"weight": state["weight"][:16].half(), "bias": state["bias"][:16].half()}
    torch.save(half, folder / "colbert_linear.pt")
    route = stcompile.load_stack(folder).route(None)
    made = route(route.features(["hello world"]))
    assert made["token_vectors"].shape[-1] == 16
    assert made["token_vectors"].dtype == torch.float32


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"weight": torch.zeros(3)}, "is not one linear layer"),
        ({"bias": torch.zeros(3)}, "is not one linear layer"),
        ({"weight": torch.zeros(4, 32), "bias": torch.zeros(3)}, "is not one linear layer"),
        ([1, 2], "cannot be read .*does not hold tensors by name"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_linear_layer(content: Any, says: str, folder: Path) -> None:
    torch.save(content, folder / "sparse_linear.pt")
    if content is None:
        (folder / "sparse_linear.pt").write_bytes(b"version https://git-lfs")
    with pytest.raises(ModelFolderError, match=says):
        stcompile.load_stack(folder)


def test_code_in_them_does_not_run(folder: Path) -> None:
    torch.save({"weight": Path("harmless")}, folder / "sparse_linear.pt")
    with pytest.raises(ModelFolderError, match="cannot be read"):
        stcompile.load_stack(folder)
