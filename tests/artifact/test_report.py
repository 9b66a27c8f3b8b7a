"""The report: what is written is what is read, anything else is refused in one sentence, and nobody runs on it."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stcompile.artifact import Artifact, open_artifact, write_manifest
from stcompile.artifact.fields import to_json
from stcompile.artifact.manifest import MANIFEST_NAME, Manifest, _digest
from stcompile.artifact.report import (
    REPORT_NAME,
    BudgetSummary,
    CalibrationSummary,
    DistillationSummary,
    ImageParity,
    LayerSummary,
    OutputReport,
    PassSummary,
    PathReport,
    QuantizationSummary,
    Report,
    read_report,
    write_report,
)
from stcompile.errors import ArtifactError
from tests.artifact.rules import put, untried
from tests.conftest import GOLDEN

Change = dict[str, Any]

_QUANTIZED = QuantizationSummary(
    "int8",
    3,
    1,
    ("1 LSTM: its state", "2 MatMul: outliers"),
    CalibrationSummary("mine.csv", 200, 4711, "ef" * 32),
    (
        LayerSummary("layer.0.(query, key)", "query", 2, "static", 8, "percentile", 0.5, 0.0123, 1.5e-5),
        LayerSummary("layer.0.dense", "", 1, "per-token", 8, reason="a static range makes a relative error of 0.100"),
        LayerSummary("layer.1.dense", "", 1, "float32", 32, error=0.0, sensitivity=0.0, reason="the accuracy budget"),
    ),
    BudgetSummary("mean_cosine_drop", 0.003, 0.0021, 750, 4),
    CalibrationSummary("pictures", 64, 3200, "ef" * 32),
)

_DISTILLED = DistillationSummary("ab" * 32, 256, "spearman", 3, 0.9, 0.8)

_PATHS = (PathReport("avx2", 48, 1e-3, 0.999, 1.0), PathReport("body", 48, 1e-3, 0.999, 0.9999))
_IMAGES = ImageParity(32, 1e-3, 0.999, 0.9999, 1.0, "noise 40x30", "ab" * 32, 0.999, 0.9999)
_PASSES = (PassSummary("fuse-attention", 2), PassSummary("pack-qkv", 0, ("the biases differ",)))

OLDER = sorted(path.parent for path in (GOLDEN / "artifacts").glob("v[123]/*/manifest.json"))


def _published(folder: Path, manifest: Manifest, content: str) -> Artifact:
    """An opened artifact with that report."""
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "more").mkdir(exist_ok=True)
    (folder / "more/tokenizer.json").write_text("{}")
    (folder / REPORT_NAME).write_text(content, encoding="utf-8")
    write_manifest(folder, manifest)
    return open_artifact(folder)


def _body(report: Report) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(to_json(report.to_dict()))
    return body


def _full(report: Report) -> Report:
    """A report in which every field is filled."""
    outputs = (OutputReport("sparse", 3, 1e-3, 0.99, 0.999, 1.0, report.parity.tolerance, 0.98),)
    judged = dataclasses.replace(report.parity, paths=_PATHS, outputs=outputs, images=_IMAGES)
    return dataclasses.replace(report, passes=_PASSES, quantization=_QUANTIZED, distillation=_DISTILLED, parity=judged)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"passes": _PASSES},
        {"quantization": QuantizationSummary("dynamic", 12, 3, ("the last Dense",))},
        {"quantization": _QUANTIZED},
        {"distillation": _DISTILLED},
        {"opsets": {"query": 23, "document": 20}, "provider": "cuda"},
    ],
    ids=lambda change: "-".join(change) or "plain",
)
def test_what_is_written_is_what_is_read(change: Change, report: Report, manifest: Manifest, tmp_path: Path) -> None:
    written = dataclasses.replace(report, **change)
    write_report(tmp_path, written)
    assert read_report(_published(tmp_path, manifest, (tmp_path / REPORT_NAME).read_text("utf-8"))) == written


def test_a_whole_number_where_a_float_belongs_is_read(report: Report, manifest: Manifest, tmp_path: Path) -> None:
    """As JSON writers of other languages put it."""
    body = _body(report)
    body["parity"] |= {"min_cosine": 1, "max_abs_error": 0}
    assert read_report(_published(tmp_path, manifest, json.dumps(body))).parity.min_cosine == 1


def test_the_same_report_is_the_same_bytes(report: Report, tmp_path: Path) -> None:
    shuffled = Report(**dict(reversed(vars(report).items())))
    contents = []
    for item in (report, shuffled):
        write_report(tmp_path, item)
        contents.append((tmp_path / REPORT_NAME).read_bytes())
    assert contents[0] == contents[1]
    assert "größer als nötig".encode() in contents[0]


def test_a_number_that_is_none_is_not_written(report: Report, tmp_path: Path) -> None:
    """No release could read it again."""
    with pytest.raises(ValueError, match="Out of range"):
        write_report(
            tmp_path, dataclasses.replace(report, parity=dataclasses.replace(report.parity, min_cosine=math.nan))
        )
    assert not list(tmp_path.iterdir())


def test_it_tells_the_verdict(report: Report) -> None:
    failed = dataclasses.replace(report.parity, failures=("mean cosine 0.9 is below 0.99",))
    assert report.to_dict()["parity"]["passed"]
    assert not dataclasses.replace(report, parity=failed).to_dict()["parity"]["passed"]


def test_keys_of_a_later_release_are_left_alone(report: Report, manifest: Manifest, tmp_path: Path) -> None:
    body = {**_body(report), "added_later": [1]}
    assert read_report(_published(tmp_path, manifest, json.dumps(body))) == report


# Where a value lies, what it is, and what it must be: every rule, by the values just outside.
_ANY_NUMBER = 10**400
OUT_OF_RANGE: list[tuple[str, Any, str]] = [
    ("source", {}, "source.name is missing"),
    ("source.fingerprint", "short", "64 hexadecimal digits"),
    ("source.modules.0.config", [], "an object"),
    ("recipe", None, "text"),
    ("provider", "tpu", "one of cpu, cuda"),
    ("opsets.", 0, "a whole number from 1 to"),
    ("opsets", [23], "an object"),
    ("passes.0.rewrites", -1, "a whole number from 0 to"),
    ("passes.0.refusals", "text", "a list"),
    ("quantization", {"scheme": "int8", "matmuls": 1, "embeddings": 0, "layers": [{"name": "dense"}]}, "is missing"),
    ("quantization.matmuls", -1, "a whole number from 0 to"),
    ("quantization.embeddings", 1.5, "a whole number"),
    ("quantization.kept", "text", "a list"),
    ("quantization.layers.0.matmuls", -1, "a whole number from 0 to"),
    ("quantization.layers.0.bits", 0, "a whole number from 1 to 64"),
    ("quantization.layers.0.smoothing", _ANY_NUMBER, "a finite number"),
    ("quantization.layers.0.error", "1", "a number"),
    ("quantization.layers.0.error", _ANY_NUMBER, "a finite number"),
    ("quantization.layers.0.sensitivity", _ANY_NUMBER, "a finite number"),
    ("quantization.calibration", {"texts": "3"}, "is missing"),
    ("quantization.calibration.texts", -1, "a whole number from 0 to"),
    ("quantization.calibration.tokens", -1, "a whole number from 0 to"),
    ("quantization.calibration.sha256", "", "64 hexadecimal digits"),
    ("quantization.budget.measure", "speed", "one of min_cosine, mean_cosine_drop, spearman_drop"),
    ("quantization.budget.limit", True, "a number"),
    ("quantization.budget.reached", _ANY_NUMBER, "a finite number"),
    ("quantization.budget.texts", -1, "a whole number from 0 to"),
    ("quantization.budget.steps", -1, "a whole number from 0 to"),
    ("distillation.fingerprint", "AB" * 32, "64 hexadecimal digits"),
    ("distillation.pca_dims", 0, "a whole number from 1 to"),
    ("distillation.measure", "taste", "one of spearman, neighbour_overlap"),
    ("distillation.texts", -1, "a whole number from 0 to"),
    ("distillation.teacher", _ANY_NUMBER, "a finite number"),
    ("distillation.student", None, "a number"),
    ("notes", [1], "text"),
    ("versions.stcompile", None, "text"),
    ("parity", None, "an object"),
    ("parity.num_texts", -1, "a whole number from 0 to"),
    ("parity.chosen_of", -1, "a whole number from 0 to"),
    ("parity.max_abs_error", _ANY_NUMBER, "a finite number"),
    ("parity.min_cosine", -_ANY_NUMBER, "a finite number"),
    ("parity.mean_cosine", _ANY_NUMBER, "a finite number"),
    ("parity.neighbour_overlap", _ANY_NUMBER, "a finite number"),
    ("parity.active_overlap", _ANY_NUMBER, "a finite number"),
    ("parity.tolerance.active_overlap", _ANY_NUMBER, "a finite number"),
    ("parity.batch_invariance", _ANY_NUMBER, "a finite number"),
    ("parity.reference_batch_invariance", _ANY_NUMBER, "a finite number"),
    ("parity.texts_sha256", "", "64 hexadecimal digits"),
    ("parity.misread", 0, "true or false"),
    ("parity.outputs.0.texts", -1, "a whole number from 0 to"),
    ("parity.outputs.0.max_abs_error", _ANY_NUMBER, "a finite number"),
    ("parity.outputs.0.min_cosine", _ANY_NUMBER, "a finite number"),
    ("parity.outputs.0.mean_cosine", "1", "a number"),
    ("parity.outputs.0.batch_invariance", _ANY_NUMBER, "a finite number"),
    ("parity.outputs.0.active_overlap", _ANY_NUMBER, "a finite number"),
    ("parity.outputs.0.tolerance.max_abs_error", _ANY_NUMBER, "a finite number"),
    ("parity.outputs.0.tolerance.min_cosine", "1", "a number"),
    ("parity.outputs.0.tolerance.mean_cosine", _ANY_NUMBER, "a finite number"),
    ("parity.outputs.0.tolerance.batch_invariance", _ANY_NUMBER, "a finite number"),
    ("parity.outputs.0.tolerance.active_overlap", _ANY_NUMBER, "a finite number"),
    ("parity.outputs.0.tolerance.agreement", _ANY_NUMBER, "a finite number"),
    ("parity.outputs.0.tolerance.neighbour_overlap", _ANY_NUMBER, "a finite number"),
    ("parity.paths.0.texts", -1, "a whole number from 0 to"),
    ("parity.paths.0.max_abs_error", _ANY_NUMBER, "a finite number"),
    ("parity.paths.0.min_cosine", _ANY_NUMBER, "a finite number"),
    ("parity.paths.0.agreement", "1", "a number"),
    ("parity.images.num_images", -1, "a whole number from 0 to"),
    ("parity.images.max_abs_error", _ANY_NUMBER, "a finite number"),
    ("parity.images.min_cosine", None, "a number"),
    ("parity.images.mean_cosine", _ANY_NUMBER, "a finite number"),
    ("parity.images.batch_invariance", "1", "a number"),
    ("parity.images.images_sha256", "", "64 hexadecimal digits"),
    ("parity.images.body_min_cosine", _ANY_NUMBER, "a finite number"),
    ("parity.images.agreement", _ANY_NUMBER, "a finite number"),
    ("quantization.image_calibration.texts", -1, "a whole number from 0 to"),
    ("quantization.image_calibration.tokens", -1, "a whole number from 0 to"),
    ("quantization.image_calibration.sha256", "", "64 hexadecimal digits"),
    ("parity.tolerance", [], "an object"),
    ("parity.tolerance.max_abs_error", _ANY_NUMBER, "a finite number"),
    ("parity.tolerance.min_cosine", None, "a number"),
    ("parity.tolerance.mean_cosine", _ANY_NUMBER, "a finite number"),
    ("parity.tolerance.batch_invariance", "1", "a number"),
    ("parity.tolerance.agreement", "1", "a number"),
    ("parity.tolerance.neighbour_overlap", [], "a number"),
]


def test_everything_that_is_checked_by_its_range_is_tried() -> None:
    """A field that is added with a rule is missed here, not by whoever crafts a report."""
    assert untried(Report, {path for path, _, _ in OUT_OF_RANGE}) == set()


@pytest.mark.parametrize(("path", "value", "wanted"), OUT_OF_RANGE, ids=lambda value: str(value)[:40])
def test_a_value_out_of_its_range_is_named_with_what_it_must_be(
    path: str, value: Any, wanted: str, report: Report, manifest: Manifest, tmp_path: Path
) -> None:
    body = _body(_full(report))
    put(body, path, value)
    artifact = _published(tmp_path, manifest, json.dumps(body))
    with pytest.raises(ArtifactError, match=r"^report\.json is malformed \(.*\): export the model again$") as caught:
        read_report(artifact)
    assert wanted in str(caught.value)
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key", [field.name for field in dataclasses.fields(Report) if field.default is dataclasses.MISSING]
)
def test_a_missing_key_is_named(key: str, report: Report, manifest: Manifest, tmp_path: Path) -> None:
    body = _body(report)
    del body[key]
    with pytest.raises(ArtifactError, match=rf"report\.json is malformed \({key} is missing"):
        read_report(_published(tmp_path, manifest, json.dumps(body)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is not valid JSON"),
        ("{", "is not valid JSON"),
        ("[]", r"is malformed \(it must be an object, got \[\]"),
        ("null", r"is malformed \(it must be an object, got None"),
        ('{"dim": NaN}', "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[" * 100 + "]" * 100, r"is malformed \(more than 64 levels"),
        ('{"a": "\\ud800"}', "is not valid JSON"),
        ('{"a": 1' + "0" * 5000 + "}", "is not valid JSON"),
        ('{"source": {"modules": [{"config": {"a": 1e999}}]}}', "is not valid JSON"),
    ],
    ids=["empty", "half", "list", "null", "NaN", "deep", "levels", "half a character", "digits", "beyond floats"],
)
def test_what_is_no_report_is_named(content: str, reason: str, manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=rf"^report\.json {reason}.*: export the model again$"):
        read_report(_published(tmp_path, manifest, content))


def test_bytes_that_are_no_text_are_named(manifest: Manifest, tmp_path: Path) -> None:
    _published(tmp_path, manifest, "")
    (tmp_path / REPORT_NAME).write_bytes(b"\xff")
    write_manifest(tmp_path, manifest)
    with pytest.raises(ArtifactError, match=r"report\.json cannot be read"):
        read_report(open_artifact(tmp_path))


def test_a_report_that_is_no_report_by_its_size_is_named(
    report: Report, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = _published(tmp_path, manifest, to_json(report.to_dict()) + " " * (1 << 20))
    monkeypatch.setattr("stcompile.artifact.folder._LARGEST_JSON", 1 << 20)
    with pytest.raises(ArtifactError, match=r"report\.json is larger than 1 MB: it is not an stcompile report"):
        read_report(artifact)


def test_a_manifest_without_a_report_is_named(manifest: Manifest, report: Report, tmp_path: Path) -> None:
    """As an export in the making has it: what runs is there, and nothing is proved."""
    _published(tmp_path, manifest, to_json(report.to_dict()))
    (tmp_path / REPORT_NAME).unlink()
    write_manifest(tmp_path, manifest)
    with pytest.raises(ArtifactError, match=r"has no report\.json: export the model again"):
        read_report(open_artifact(tmp_path))


def test_a_report_that_is_gone_or_changed_is_noticed(manifest: Manifest, report: Report, tmp_path: Path) -> None:
    """It is a file like any other: an artifact without its proof is not whole."""
    _published(tmp_path, manifest, to_json(report.to_dict()))
    (tmp_path / REPORT_NAME).write_text(to_json({**report.to_dict(), "recipe": "dynamic"}), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"report\.json in .* is corrupt or was changed"):
        open_artifact(tmp_path)
    (tmp_path / REPORT_NAME).unlink()
    with pytest.raises(ArtifactError, match=r"incomplete: report\.json is missing"):
        open_artifact(tmp_path)


@pytest.mark.parametrize("folder", OLDER, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_an_older_artifact_tells_what_it_always_told(folder: Path) -> None:
    """Of every field that its manifest and parity.json hold, nothing is lost and nothing is made up."""
    artifact = open_artifact(folder)
    report = json.loads(to_json(read_report(artifact).to_dict()))
    told = {**json.loads(to_json(dataclasses.asdict(artifact.manifest))), **report}
    written = json.loads((folder / MANIFEST_NAME).read_text("utf-8"))
    written["parity"] = json.loads((folder / "parity.json").read_text("utf-8"))
    assert told["opsets"] == {graph["route"]: graph.pop("opset") for graph in written["graphs"]}
    del written["digest"]
    _check_told(told, written)
    assert told["parity"]["reference"] == "stcompile's own modules"


def _check_told(told: Any, written: Any) -> None:
    """Whatever was written is there; what later schemas added may be there too."""
    if isinstance(written, dict):
        assert written.keys() <= told.keys()
        for key, item in written.items():
            _check_told(told[key], item)
    elif isinstance(written, list):
        assert len(told) == len(written)
        for one, other in zip(told, written, strict=True):
            _check_told(one, other)
    else:
        assert told == written


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("quantization.matmuls", -1, "quantization.matmuls must be a whole number"),
        ("graphs.0.opset", "23", r"opsets\.'' must be a whole number"),
        ("source", 1, "source must be an object"),
        ("recipe", None, "recipe must be text"),
    ],
)
def test_a_crafted_older_manifest_runs_and_its_report_is_refused(
    path: str, value: Any, reason: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(GOLDEN / "artifacts/v3/full_stack-onnx-int8", tmp_path / "copy"))
    body = json.loads((folder / MANIFEST_NAME).read_text("utf-8"))
    del body["digest"]
    put(body, path, value)
    (folder / MANIFEST_NAME).write_text(json.dumps({**body, "digest": _digest(body)}), encoding="utf-8")
    artifact = open_artifact(folder)
    with pytest.raises(ArtifactError, match=rf"^manifest\.json with parity\.json is malformed \({reason}"):
        read_report(artifact)


_WITHOUT = """
import sys

import stcompile

encoder = stcompile.load(sys.argv[1], threads=1)
assert encoder.encode("hello").shape == (encoder.get_sentence_embedding_dimension(),)
assert "stcompile.artifact.report" not in sys.modules
"""


@pytest.mark.parametrize("folder", [OLDER[0], OLDER[-1]], ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_the_runtime_does_not_know_of_it(folder: Path) -> None:
    subprocess.run([sys.executable, "-c", _WITHOUT, str(folder)], check=True)
