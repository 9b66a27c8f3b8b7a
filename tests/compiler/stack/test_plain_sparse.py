"""Masked language models without modules.json, read as SparseEncoder reads them, where that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SparseEncoder

import stcompile
from stcompile.errors import ModelFolderError, UnsupportedError
from tests.conftest import MODELS, load_case

PLAIN = MODELS / "plain_bert_mlm_arch"
TEXTS = [text for text in load_case(PLAIN.name).texts if isinstance(text, str)]


def test_it_is_what_sparse_encoder_makes_of_it() -> None:
    theirs = SparseEncoder(str(PLAIN), device="cpu").encode(TEXTS, convert_to_sparse_tensor=False).numpy()
    stack = stcompile.load_stack(PLAIN, sparse=True)
    assert stack.kind == "sparse encoder"
    # Measured: 4e-6 of numbers that are the difference of larger ones.
    np.testing.assert_allclose(stack.encode(TEXTS), theirs, atol=1e-5)


def test_without_being_asked_it_is_dense() -> None:
    assert stcompile.load_stack(PLAIN).kind == "encoder"


@pytest.mark.more_models
@pytest.mark.usefixtures("traced_once")
def test_exported_and_verified(tmp_path: Path) -> None:
    few: dict[str, Any] = {"texts": TEXTS[:12]}
    stcompile.export_model(PLAIN, tmp_path / "out", "onnx-fp32", sparse=True, **few)
    encoder = stcompile.load(tmp_path / "out")
    assert type(encoder) is stcompile.SparseEncoder
    assert stcompile.verify_artifact(tmp_path / "out", PLAIN, sparse=True, **few).passed
    with pytest.raises(ModelFolderError, match="what was exported with --sparse is verified with it"):
        stcompile.verify_artifact(tmp_path / "out", PLAIN, **few)


@pytest.mark.parametrize(
    ("name", "says"),
    [("plain_bert", "its network fills no masks"), ("pool_mean", "it has a modules.json, which says what it is")],
)
def test_what_it_is_not_for_is_refused(name: str, says: str) -> None:
    with pytest.raises(UnsupportedError, match=says):
        stcompile.load_stack(MODELS / name, sparse=True)
