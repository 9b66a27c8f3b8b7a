"""The manifest: what is written is what is read, and anything else is refused in one sentence."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from stcompile.errors import ArtifactError
from stcompile.manifest import (
    SCHEMA_VERSION,
    BudgetSummary,
    CalibrationSummary,
    ChatTemplate,
    EngineSpec,
    FileEntry,
    LayerSummary,
    Manifest,
    ParitySummary,
    PassSummary,
    QuantizationSummary,
    _digest,
)

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
)

_CHAT = ChatTemplate("<user>", "<system>", "</system><user>", "</user>", (3, 4))


def _body(manifest: Manifest) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(manifest.to_json())
    del body["digest"]
    return body


def _signed(body: dict[str, Any]) -> str:
    """What a release of stcompile that writes this body would have written."""
    return json.dumps({**body, "digest": _digest(body)})


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"truncate_dim": 4, "default_prompt_name": "query", "batch_invariant": False},
        {"passes": (PassSummary("fuse-attention", 2), PassSummary("pack-qkv", 0, ("the biases differ",)))},
        {"quantization": QuantizationSummary("dynamic", 12, 3, ("the last Dense",))},
        {"quantization": _QUANTIZED},
        {"engine": EngineSpec("openvino", "bfloat16")},
        {"parity": ParitySummary(250, 3e-7, 1.0, 1.0, 1.0, 0.9999999, 1.0)},
        # a whole number where a float belongs, as JSON writers of other languages put it
        {"parity": ParitySummary(250, 0, 1, 1, 1, 1, 1)},
        {"files": (FileEntry("model.onnx", "cd" * 32, 7),)},
    ],
    ids=lambda change: "-".join(change) or "plain",
)
def test_what_is_written_is_what_is_read(change: Change, manifest: Manifest) -> None:
    written = dataclasses.replace(manifest, **change)
    assert Manifest.from_json(written.to_json()) == written


@pytest.mark.parametrize(
    "change", [{"chat": _CHAT}, {"max_seq_length": None}, {"special_ids": ()}, {"length_multiple": 16}], ids=str
)
def test_the_text_front_end_survives(change: Change, manifest: Manifest) -> None:
    written = dataclasses.replace(manifest, text=dataclasses.replace(manifest.text, **change))
    assert Manifest.from_json(written.to_json()) == written


def test_the_same_manifest_is_the_same_bytes(manifest: Manifest) -> None:
    shuffled = dataclasses.replace(manifest, prompts=dict(reversed(manifest.prompts.items())))
    assert shuffled.to_json() == manifest.to_json()
    assert "größer als nötig" in manifest.to_json()


def test_an_older_manifest_may_lack_what_has_a_default(manifest: Manifest) -> None:
    body = _body(manifest)
    del body["files"], body["text"]["chat"]
    assert Manifest.from_json(_signed(body)) == manifest


def test_a_manifest_of_schema_2_means_onnx_runtime_in_float32(manifest: Manifest) -> None:
    """It knew no other engine, no calibration, no layers, no budget, and padded to the longest alone."""
    summary = QuantizationSummary("dynamic", 12, 3)
    body = _body(dataclasses.replace(manifest, schema_version=2, quantization=summary))
    del body["engine"], body["text"]["length_multiple"]
    for key in ("calibration", "layers", "budget"):
        del body["quantization"][key]
    read = Manifest.from_json(_signed(body))
    assert read.engine == EngineSpec("onnxruntime", "float32")
    assert read.text.length_multiple == 1
    assert read.quantization == summary


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"engine": EngineSpec("tensorrt")}, "engine is 'tensorrt' in 'float32'"),
        ({"engine": EngineSpec("openvino", "float8")}, "engine is 'openvino' in 'float8'"),
        ({"engine": EngineSpec("")}, "engine is ''"),
        ({"padding": "shortest"}, "padding is 'shortest'"),
        ({"optimization_level": "all"}, "optimization_level is 'all'"),
        ({"dim": 9}, "dim is 9, and the graph's 8"),
    ],
    ids=str,
)
def test_a_manifest_that_contradicts_itself_is_refused(change: Change, reason: str, manifest: Manifest) -> None:
    written = dataclasses.replace(manifest, **change)
    with pytest.raises(ArtifactError, match=rf"contradicts itself \({reason}.*export the model again"):
        Manifest.from_json(written.to_json())


@pytest.mark.parametrize("limit", ["length_multiple", "min_seq_length", "max_seq_length"])
@pytest.mark.parametrize("value", [0, -1])
def test_no_length_is_below_one(limit: str, value: int, manifest: Manifest) -> None:
    change: Change = {limit: value}
    written = dataclasses.replace(manifest, text=dataclasses.replace(manifest.text, **change))
    with pytest.raises(ArtifactError, match="a length limit is below 1"):
        Manifest.from_json(written.to_json())


def test_keys_of_a_later_release_are_left_alone(manifest: Manifest) -> None:
    assert Manifest.from_json(_signed({**_body(manifest), "added_later": [1]})) == manifest


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not valid JSON"),
        ('{"schema_version": 1', "not valid JSON"),
        ("[]", "not an stcompile manifest"),
        ('{"version": 1}', "not an stcompile manifest"),
        ('{"schema_version": "1"}', "not an stcompile manifest"),
        (f'{{"schema_version": {SCHEMA_VERSION + 1}}}', r"schema version 5.*reads up to 4: pip install --upgrade"),
        (f'{{"schema_version": {SCHEMA_VERSION}}}', "changed after the export"),
    ],
)
def test_what_is_no_manifest_is_named(text: str, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        Manifest.from_json(text)


@pytest.mark.parametrize("key", [field.name for field in dataclasses.fields(Manifest) if field.name != "files"])
def test_a_changed_value_is_noticed(key: str, manifest: Manifest) -> None:
    body = json.loads(manifest.to_json())
    body[key] = 0 if key == "schema_version" else "changed"
    with pytest.raises(ArtifactError, match="changed after the export"):
        Manifest.from_json(json.dumps(body))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dim", "8"),
        ("dim", True),
        ("dim", None),
        ("batch_invariant", 1),
        ("prompts", []),
        ("text", "transformer"),
        ("graphs", [1]),
        ("graphs", 3),
        ("source", {}),
        ("files", [{"path": "model.onnx"}]),
        ("engine", None),
        ("engine", "openvino"),
        ("quantization", {"scheme": "int8", "matmuls": 1, "embeddings": 0, "layers": [{"name": "dense"}]}),
        ("quantization", {"scheme": "int8", "matmuls": 1, "embeddings": 0, "budget": {"measure": "min_cosine"}}),
        ("quantization", {"scheme": "int8", "matmuls": 1, "embeddings": 0, "calibration": {"texts": "3"}}),
    ],
)
def test_a_malformed_value_is_named(key: str, value: Any, manifest: Manifest) -> None:
    with pytest.raises(ArtifactError, match="is malformed"):
        Manifest.from_json(_signed({**_body(manifest), key: value}))


# What later schemas added has a default, so that older manifests are still read.
REQUIRED = [field.name for field in dataclasses.fields(Manifest) if field.default is field.default_factory]


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named(key: str, manifest: Manifest) -> None:
    body = _body(manifest)
    del body[key]
    with pytest.raises(ArtifactError, match="schema_version" if key == "schema_version" else key):
        Manifest.from_json(_signed(body))
