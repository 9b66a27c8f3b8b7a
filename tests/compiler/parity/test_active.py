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


@pytest.mark.usefixtures("traced_once")
def test_numbers_that_appear_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As small as a cosine does not see."""
    real = _run_here

    def more(*arguments: Any, **options: Any) -> Any:
        return {name: np.where(rows == 0, 1e-9, rows) for name, rows in real(*arguments, **options).items()}

    monkeypatch.setattr(verify, "run_shipped", more)
    with pytest.raises(ParityError, match=r"of the numbers that are not zero 0\.\d+ are the same, less than 0\.9995"):
        stcompile.export_model(MODELS / "sparse_splade", tmp_path / "out", "onnx-fp32", texts=TEXTS)
    assert not (tmp_path / "out").exists()


@pytest.mark.more_models
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


def test_a_padding_token_that_a_text_spells_out_is_no_fault_of_ours(tmp_path: Path) -> None:
    """sentence-transformers loses it in a padded batch of weights of tokens: there it is asked one by one."""
    texts = ["[PAD] hello", "the quick brown fox jumps over the lazy dog", "hello"]
    report = read_report(stcompile.export_model(MODELS / "sparse_static", tmp_path / "out", "onnx-fp32", texts=texts))
    assert report.parity.passed


@pytest.mark.more_models
def test_learned_features_in_routes(tmp_path: Path) -> None:
    """Which keep some by default, where the model around them says nothing."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sentence_transformer.modules import Router

    modules = list(SparseEncoder(str(MODELS / "sparse_csr"), device="cpu").children())
    routed = SparseEncoder(modules=[Router.for_query_document(modules, modules)], device="cpu")
    routed.save(str(tmp_path / "model"), create_model_card=False)
    artifact = stcompile.export_model(tmp_path / "model", tmp_path / "out", "onnx-fp32", texts=TEXTS)
    expected = routed.encode_query(TEXTS).to_dense().numpy()
    found = stcompile.SparseEncoder.load(artifact.folder, threads=1).encode_query(TEXTS).toarray()
    assert np.array_equal(found != 0, expected != 0)
    np.testing.assert_allclose(found, expected, atol=2e-5)
