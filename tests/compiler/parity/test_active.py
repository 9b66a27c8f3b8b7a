"""The proof of sparse encoders fails where one is wrong: its weights, and which numbers are not zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stcompile
from stcompile.artifact.report import read_report
from stcompile.artifact.target import Target
from stcompile.compiler.modules import SpladePooling
from stcompile.compiler.parity import verify
from stcompile.compiler.parity.active import active_overlap, sparse_tolerance
from stcompile.errors import ModelFolderError, ParityError
from tests.conftest import MODELS, Quick, _run_here, load_case

TEXTS = [text for text in load_case("sparse_splade").texts if isinstance(text, str)]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "run_shipped", _run_here)


def test_what_is_active_in_both() -> None:
    one = np.array([[1.0, 0, 2, 0], [0, 0, 0, 0]], np.float32)
    other = np.array([[0.5, 3, 2, 0], [0, 0, 0, 0]], np.float32)
    assert active_overlap(one, one) == 1
    assert active_overlap(one, other) == pytest.approx((2 / 3 + 1) / 2)


def test_a_published_artifact_tells(quick: Quick) -> None:
    found = read_report(quick("sparse_splade", "onnx-fp32")).parity
    assert found.active_overlap == 1
    assert found.tolerance.active_overlap == 0.9995


def test_numbers_that_appear_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As small as a cosine does not see."""
    real = _run_here

    def more(*arguments: Any, **options: Any) -> Any:
        return {name: np.where(rows == 0, 1e-9, rows) for name, rows in real(*arguments, **options).items()}

    monkeypatch.setattr(verify, "run_shipped", more)
    with pytest.raises(ParityError, match=r"of the numbers that are not zero 0\.\d+ are the same, less than 0\.9995"):
        stcompile.export_model(MODELS / "sparse_splade", tmp_path / "out", "onnx-fp32", texts=TEXTS)
    assert not (tmp_path / "out").exists()


def test_another_activation_is_misread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpladePooling, "_activated", lambda self, logits: logits.relu())
    with pytest.raises(ParityError, match="stcompile reads the model otherwise than sentence-transformers"):
        stcompile.export_model(MODELS / "sparse_splade", tmp_path / "out", "onnx-fp32", texts=TEXTS)


def test_verify_compares_like_with_like(quick: Quick) -> None:
    folder = quick("sparse_splade", "onnx-fp32").folder
    assert stcompile.verify_artifact(folder, MODELS / "sparse_splade", texts=TEXTS[:6]).passed
    with pytest.raises(ModelFolderError, match="the artifact is a sparse encoder, and the model an encoder"):
        stcompile.verify_artifact(folder, MODELS / "pool_mean", texts=TEXTS[:6])
    other = stcompile.verify_artifact(folder, MODELS / "sparse_splade_v5", texts=TEXTS[:6])
    assert not other.passed


def test_who_accepts_a_cosine_accepts_other_numbers_too() -> None:
    target = Target.parse("onnx-int8")
    assert sparse_tolerance(target, target.tolerance, None).active_overlap == 0.9
    assert sparse_tolerance(target, target.tolerance, 0.5).active_overlap == 0.5
    assert sparse_tolerance(target, target.tolerance, 0.99).active_overlap == 0.9
