"""An accuracy budget, from the argument to the report: met by mixed precision, or nothing is published."""

from __future__ import annotations

import dataclasses
import filecmp
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import spearmanr

import stcompile
from stcompile.artifact import Artifact, write_manifest
from stcompile.artifact.report import BudgetSummary, QuantizationSummary, read_report, write_report
from stcompile.compiler.export import export_model
from stcompile.compiler.quantize.calibration import default_set
from stcompile.errors import BudgetError, InputError, ParityError
from tests.conftest import MODELS, Quick, load_case

CASE = "full_stack"

# Few texts, so that a search takes a second. Portable, so that layers have three ways to be computed, not two.
CALIBRATION = list(default_set().texts[::12])
TEXTS = [text for text in load_case(CASE).texts if isinstance(text, str)]

# What the float32 graph gives is not quite what torch gives: of a budget of cosines no more than float32's rounding.
ROUNDING = 1e-6

# Eight bits reach 0.9958 with these texts, and float32 behind a table in eight bits 0.99994.
MIXED = 0.9993

# Eight bits lose 0.00047 of the mean cosine on the texts that are judged, and 0.0003 with those of calibration.
DROP = 0.0002

PAIRS = [(TEXTS[index], TEXTS[-1 - index], float(index % 5)) for index in range(len(TEXTS) // 2)]


def cosines(artifact: Artifact) -> npt.NDArray[np.float64]:
    known = load_case(CASE)
    a = known.expected().astype(np.float64)
    b = stcompile.load(artifact.folder, threads=1).encode(known.texts).astype(np.float64)
    found: npt.NDArray[np.float64] = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return found


def quantized(artifact: Artifact) -> QuantizationSummary:
    found = read_report(artifact).quantization
    assert found is not None
    return found


def budget_of(artifact: Artifact) -> BudgetSummary:
    found = quantized(artifact).budget
    assert found is not None
    return found


def schemes(artifact: Artifact) -> list[str]:
    return [layer.scheme for layer in quantized(artifact).layers]


@pytest.fixture(scope="module")
def mixed(quick: Quick) -> Artifact:
    return quick(CASE, "onnx-int8", calibration=CALIBRATION, portable=True, min_cosine=MIXED)


@pytest.fixture(scope="module")
def cheap(quick: Quick) -> Artifact:
    return quick(CASE, "onnx-int8", calibration=CALIBRATION, portable=True)


def test_a_budget_is_met_with_some_layers_in_more_precision(mixed: Artifact, cheap: Artifact) -> None:
    assert cosines(cheap).min() < MIXED, "there is something to do"
    assert cosines(mixed).min() >= MIXED - ROUNDING
    found = budget_of(mixed)
    assert (found.measure, found.limit) == ("min_cosine", MIXED)
    assert found.steps > 0
    assert found.reached >= MIXED
    assert found.texts == len(CALIBRATION) + len(TEXTS)
    moved = [layer for layer in quantized(mixed).layers if layer.reason == "the accuracy budget"]
    assert moved
    assert len(moved) <= found.steps
    assert "float32" not in {layer.scheme for layer in quantized(mixed).layers if not layer.reason}
    assert quantized(mixed).matmuls > 0, "cheaper than all in float32"
    assert schemes(mixed) != schemes(cheap)


def test_the_report_tells_of_every_layer(mixed: Artifact, cheap: Artifact) -> None:
    layers = quantized(mixed).layers
    assert [layer.name for layer in layers] == [layer.name for layer in quantized(cheap).layers]
    assert layers[0].name == "encoder.layer.0.attention.self.(query, key, value)"
    assert layers[0].matmuls == 3
    for layer in layers:
        assert layer.error is not None
        assert layer.sensitivity is not None
        assert layer.sensitivity >= 0
        assert (
            (layer.bits, layer.error, layer.sensitivity) == (32, 0, 0) if layer.scheme == "float32" else layer.bits == 8
        )
        assert bool(layer.observer) is (layer.scheme == "static")
    assert any(layer.sensitivity for layer in layers)
    assert all(layer.sensitivity is None for layer in quantized(cheap).layers), "nothing was searched"
    assert quantized(cheap).budget is None
    for artifact in (mixed, cheap):
        calibration = quantized(artifact).calibration
        assert calibration is not None
        assert (calibration.name, calibration.texts) == ("texts", len(CALIBRATION))
    kept = [line for line in quantized(mixed).kept if "the accuracy budget" in line]
    in_float32 = sum(layer.matmuls for layer in layers if layer.scheme == "float32")
    assert kept == ([f"{in_float32} MatMul: the accuracy budget"] if in_float32 else [])


def test_a_budget_that_is_met_anyway_changes_nothing(cheap: Artifact, quick: Quick) -> None:
    wide = quick(CASE, "onnx-int8", calibration=CALIBRATION, portable=True, min_cosine=0.9)
    assert budget_of(wide).steps == 0
    assert schemes(wide) == schemes(cheap)
    assert filecmp.cmp(wide.folder / "model.onnx", cheap.folder / "model.onnx", shallow=False)


def test_a_tighter_budget_takes_more_steps(mixed: Artifact, quick: Quick) -> None:
    tight = quick(CASE, "onnx-int8", calibration=CALIBRATION, portable=True, min_cosine=0.9998)
    assert budget_of(tight).steps > budget_of(mixed).steps
    assert cosines(tight).min() >= 0.9998 - ROUNDING
    assert quantized(tight).matmuls < quantized(mixed).matmuls or "per-token" in schemes(tight)


@pytest.mark.parametrize("target", ["onnx-int4-weights", "openvino-int8", "openvino-int4-weights"])
def test_every_target_that_calibrates_can_be_steered(target: str, quick: Quick) -> None:
    artifact = quick(CASE, target, calibration=CALIBRATION, min_cosine=MIXED)
    assert cosines(artifact).min() >= MIXED - ROUNDING
    assert budget_of(artifact).steps > 0
    assert quantized(artifact).matmuls > 0
    if "int4" in target:
        assert {layer.bits for layer in quantized(artifact).layers} >= {8}


def test_what_cannot_be_met_publishes_nothing(cheap: Artifact, quick: Quick, tmp_path: Path) -> None:
    """The table of tokens is in eight bits whatever the layers are: no plan is this near."""
    destination = Path(shutil.copytree(cheap.folder, tmp_path / "artifact"))
    before = {path.name: path.read_bytes() for path in destination.iterdir()}
    with pytest.raises(
        BudgetError, match=r"budget cannot be met: min_cosine is 0\.99.*0\.999999.*Nothing was published"
    ):
        quick(CASE, "onnx-int8", destination, calibration=CALIBRATION, portable=True, min_cosine=0.999999)
    assert {path.name: path.read_bytes() for path in destination.iterdir()} == before
    with pytest.raises(BudgetError):
        quick(CASE, "onnx-int8", tmp_path / "other", calibration=CALIBRATION, portable=True, max_drop=1e-7)
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]
    assert issubclass(BudgetError, ParityError), "the same exit code"


def test_a_drop_is_of_the_mean_cosine_without_pairs(quick: Quick) -> None:
    artifact = quick(CASE, "onnx-int8", calibration=CALIBRATION, portable=True, max_drop=DROP)
    found = budget_of(artifact)
    assert (found.measure, found.limit) == ("mean_cosine_drop", DROP)
    assert found.steps > 0
    assert 0 < found.reached <= DROP
    assert 1 - cosines(artifact).mean() <= DROP + ROUNDING
    assert read_report(artifact).parity.mean_cosine >= 1 - DROP


def test_a_drop_is_of_the_rank_correlation_with_pairs(quick: Quick) -> None:
    """With the pairs' scores, as scipy ranks them."""
    artifact = quick(CASE, "onnx-int8", calibration=CALIBRATION, portable=True, max_drop=0.02, evaluation=PAIRS)
    found = budget_of(artifact)
    assert (found.measure, found.limit, found.texts) == ("spearman_drop", 0.02, len(PAIRS))
    correlations = []
    for encode in (stcompile.load(quick(CASE, "onnx-fp32").folder).encode, stcompile.load(artifact.folder).encode):
        sides = [first for first, _, _ in PAIRS], [second for _, second, _ in PAIRS]
        left, right = (encode(texts).astype(np.float64) for texts in sides)
        similar = (left * right).sum(axis=1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
        correlations.append(spearmanr(similar, [pair[2] for pair in PAIRS]).statistic)
    drop = (correlations[0] - correlations[1]) / abs(correlations[0])
    assert drop <= 0.02
    assert found.reached == pytest.approx(drop, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_drop": 0.01, "min_cosine": 0.99}, "two budgets: pass one of them"),
        ({"target": "onnx-fp32", "max_drop": 0.01}, "target onnx-fp32 has no layers to choose between"),
        ({"target": "onnx-int8-dynamic", "max_drop": 0.01}, "target onnx-int8-dynamic has no layers to choose between"),
        ({"target": "static", "max_drop": 0.01}, "target static has no layers to choose between"),
        ({"target": "onnx-fp32", "calibration": ["hello"]}, "onnx-fp32 is not calibrated: leave the calibration texts"),
        ({"target": "onnx-int8-dynamic", "calibration": ["hello"]}, "onnx-int8-dynamic is not calibrated"),
        ({"evaluation": PAIRS}, "pass max_drop too, or target static"),
        ({"target": "onnx-fp32", "evaluation": PAIRS}, "pass max_drop too, or target static"),
        ({"evaluation": PAIRS, "min_cosine": 0.99}, "pass max_drop too, or target static"),
        ({"evaluation": PAIRS[:1], "max_drop": 0.01}, "at least two scored pairs"),
        ({"evaluation": [("a", "b"), ("c", "d")], "max_drop": 0.01}, r"pairs must be \(text, text, score\)"),
        ({"max_drop": 0}, "max_drop is a share between 0 and 1"),
        ({"max_drop": 1}, "max_drop is a share between 0 and 1"),
        ({"max_drop": 3}, "max_drop is a share between 0 and 1"),
        ({"max_drop": -0.1}, "max_drop is a share between 0 and 1"),
        ({"max_drop": float("nan")}, "max_drop is a share between 0 and 1"),
        ({"max_drop": True}, "max_drop is a share between 0 and 1"),
        ({"max_drop": "0.3%"}, "max_drop is a share between 0 and 1"),
        ({"min_cosine": 1.5}, "between 0 and 1"),
        ({"min_cosine": float("nan")}, "between 0 and 1"),
        ({"min_cosine": "0.99"}, "between 0 and 1"),
        ({"min_cosine": True}, "between 0 and 1"),
        ({"calibration": []}, "no text to calibrate on"),
        ({"calibration": "hello"}, "calibration texts must be a list of strings"),
        ({"calibration": [1]}, "calibration texts must be a list of strings"),
    ],
    ids=str,
)
def test_wrong_arguments_are_one_clear_error_before_any_work(
    options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    """The model's folder does not even have to be there."""
    with pytest.raises(InputError, match=sentence):
        export_model(MODELS / "nowhere", tmp_path / "artifact", **options)
    assert not any(tmp_path.iterdir())


def test_verify_holds_an_artifact_to_its_budget(mixed: Artifact, tmp_path: Path) -> None:
    report = stcompile.verify_artifact(mixed.folder, MODELS / CASE, texts=TEXTS)
    assert report.passed
    assert (report.tolerance.min_cosine, report.tolerance.mean_cosine) == (MIXED, MIXED)
    folder = Path(shutil.copytree(mixed.folder, tmp_path / "copy"))
    stricter = dataclasses.replace(budget_of(mixed), limit=0.99999)
    changed = dataclasses.replace(quantized(mixed), budget=stricter)
    write_report(folder, dataclasses.replace(read_report(mixed), quantization=changed))
    write_manifest(folder, mixed.manifest)
    report = stcompile.verify_artifact(folder, MODELS / CASE, texts=TEXTS)
    assert not report.passed
    assert "is below 0.99999" in report.failures[0]
    assert stcompile.verify_artifact(folder, MODELS / CASE, texts=TEXTS, min_cosine=0.9).passed, (
        "the caller's own limit"
    )


def test_verify_holds_an_artifact_to_its_drop(quick: Quick) -> None:
    artifact = quick(CASE, "onnx-int8", calibration=CALIBRATION, portable=True, max_drop=DROP)
    report = stcompile.verify_artifact(artifact.folder, MODELS / CASE, texts=TEXTS)
    assert report.passed
    assert report.tolerance.mean_cosine == 1 - DROP


def test_parity_is_judged_by_the_budget(mixed: Artifact) -> None:
    parity = read_report(mixed).parity
    assert parity.passed
    assert parity.tolerance.min_cosine == MIXED


def test_the_same_arguments_give_the_same_plan(mixed: Artifact, quick: Quick, tmp_path: Path) -> None:
    again = quick(CASE, "onnx-int8", tmp_path / "again", calibration=CALIBRATION, portable=True, min_cosine=MIXED)
    names = sorted(path.name for path in mixed.folder.iterdir())
    assert filecmp.cmpfiles(mixed.folder, again.folder, names, shallow=False)[0] == names
