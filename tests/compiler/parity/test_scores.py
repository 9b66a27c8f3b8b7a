"""The proof of rerankers fails where a reranker is wrong: weights, activation, reading of pairs, batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import stcompile
from stcompile.artifact.manifest import LOGITS, SCORES
from stcompile.artifact.report import read_report
from stcompile.artifact.target import Target
from stcompile.compiler import export
from stcompile.compiler.modules import Scores, Transformer
from stcompile.compiler.parity import scores
from stcompile.compiler.parity.pairs import Pairs
from stcompile.compiler.parity.scores import score_tolerance
from stcompile.compiler.stack.load import load_stack
from stcompile.errors import InputError, ModelFolderError, ParityError
from tests.conftest import MODELS, Compiled, Quick, _run_here, load_case

CASE = "reranker_bert"
TEXTS = list(dict.fromkeys(text for pair in load_case(CASE).texts for text in pair))


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "run_shipped", _run_here)


def exported(tmp_path: Path, **options: Any) -> Any:
    return stcompile.export_model(MODELS / CASE, tmp_path / "artifact", "onnx-fp32", texts=TEXTS, **options)


def test_a_wrong_weight_fails(tmp_path: Path, traced_once: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = traced_once.trace

    def damaged(*arguments: Any) -> ir.Model:
        graph: ir.Model = trace(*arguments)
        value = max(
            (value for value in graph.graph.initializers.values() if len(value.shape or ()) == 2),
            key=lambda value: value.const_value.size if value.const_value else 0,
        )
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy() * np.float32(1.001), name=value.name)
        return graph

    monkeypatch.setattr(export, "trace", damaged)
    with pytest.raises(ParityError, match=r"error of a logit, in standard deviations, .* is above 1.0e-04"):
        exported(tmp_path)
    assert not (tmp_path / "artifact").exists()


def test_a_wrong_activation_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(self: Scores, features: dict[str, Any]) -> dict[str, Any]:
        return {**features, LOGITS: features[SCORES], SCORES: features[SCORES].tanh()}

    monkeypatch.setattr(Scores, "forward", other)
    with pytest.raises(ParityError, match="has another activation of its scores than was read"):
        exported(tmp_path)


@pytest.mark.more_models
def test_pairs_that_are_read_otherwise_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Token types that nobody sets: in torch already, which is said."""
    tokenize = Transformer.tokenize

    def without_types(self: Transformer, *arguments: Any) -> Any:
        found = tokenize(self, *arguments)
        return {**found, "token_type_ids": found["token_type_ids"] * 0}

    monkeypatch.setattr(Transformer, "tokenize", without_types)
    # What would notice it first.
    monkeypatch.setattr(export, "check_front_ends", lambda *_: None)
    with pytest.raises(
        ParityError, match=r"reads the model otherwise than sentence-transformers .* Please|please report"
    ):
        exported(tmp_path)


@pytest.mark.usefixtures("traced_once")
def test_what_a_pair_does_in_a_batch_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disturbed(*arguments: Any, **options: Any) -> Any:
        found = _run_here(*arguments, **options)
        found["beside"] = found["beside"] + np.linspace(0, 0.1, len(found["beside"]), dtype=np.float32)
        return found

    monkeypatch.setattr(scores, "run_shipped", disturbed)
    with pytest.raises(ParityError, match="batch invariance"):
        exported(tmp_path)


@pytest.mark.usefixtures("traced_once")
def test_no_score_is_worse_than_a_wrong_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*arguments: Any, **options: Any) -> Any:
        found = _run_here(*arguments, **options)
        found["ranked"][0] = np.nan
        return found

    monkeypatch.setattr(scores, "run_shipped", nothing)
    with pytest.raises(ParityError, match=r"error of a logit, in standard deviations, 3\.40e"):
        exported(tmp_path)


@pytest.mark.usefixtures("traced_once")
def test_what_all_pairs_are_off_by_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shift and a factor, which no cosine sees, in a precision that allows much."""

    def shifted(*arguments: Any, **options: Any) -> Any:
        return {name: rows * 2 + 3 * rows.std() for name, rows in _run_here(*arguments, **options).items()}

    monkeypatch.setattr(scores, "run_shipped", shifted)
    with pytest.raises(ParityError, match=r"error of a logit, in standard deviations, .* is above 1.0e\+00"):
        stcompile.export_model(MODELS / CASE, tmp_path / "artifact", "onnx-int8", texts=TEXTS, calibration=TEXTS)


def test_verify_judges_a_published_reranker(compiled: Compiled) -> None:
    report = stcompile.verify_artifact(compiled(CASE), MODELS / CASE, texts=TEXTS)
    assert report.passed
    assert report.reference.startswith("sentence-transformers ")
    assert report.neighbour_overlap == 1
    with pytest.raises(ModelFolderError, match="the artifact is a reranker, and the model a"):
        stcompile.verify_artifact(compiled(CASE), MODELS / "pool_mean", texts=TEXTS)


def test_pairs_of_the_callers_texts() -> None:
    route = load_stack(MODELS / CASE).routes[""]
    pairs = Pairs.of(["a", "b", "c", "d", "e"], route, {"query": "", "asked": "ask "})
    assert (pairs.queries, pairs.documents) == (("a",), ("b", "c", "d", "e"))
    assert [prompt for _, prompt in pairs.prompted] == ["ask "]
    assert "a" in pairs.edges
    # Longer than the model takes, on either side.
    assert max(len(text) for pair in pairs.edges if not isinstance(pair, str) for text in pair) > 64
    with pytest.raises(InputError, match="at least two texts"):
        Pairs.of(["a"], route, {})


@pytest.mark.more_models
def test_a_live_cross_encoder_is_its_folder(tmp_path: Path, quick: Quick) -> None:
    from sentence_transformers import CrossEncoder

    case = load_case("reranker_modernbert_v6")
    live = CrossEncoder(str(case.model), device="cpu")
    artifact = stcompile.export_model(live, tmp_path / "artifact", "onnx-fp32", texts=TEXTS)
    found = stcompile.Reranker.load(artifact.folder, threads=1).predict(case.texts)
    assert np.abs(found - case.expected()).max() < 1e-5
    assert read_report(artifact).source.modules[-1].config == {"activation_fn": "torch.nn.modules.activation.Tanh"}


def test_the_callers_own_least_cosine_takes_the_place_of_the_targets() -> None:
    target = Target.parse("onnx-int8")
    assert score_tolerance(target, None).min_cosine > 0.9
    assert score_tolerance(target, 0.5).min_cosine == 0.5
    assert score_tolerance(Target.parse("onnx-int8-dynamic"), None).batch_invariance is None
