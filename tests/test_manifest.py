"""The manifest: what is written is what is read, and anything else is refused in one sentence."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from stcompile.errors import ArtifactError
from stcompile.manifest import (
    SCHEMA_VERSION,
    ChatTemplate,
    FileEntry,
    Manifest,
    ParitySummary,
    PassSummary,
    QuantizationSummary,
    _digest,
)

Change = dict[str, Any]

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


@pytest.mark.parametrize("change", [{"chat": _CHAT}, {"max_seq_length": None}, {"special_ids": ()}], ids=str)
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
        (f'{{"schema_version": {SCHEMA_VERSION + 1}}}', r"schema version 3.*reads up to 2: pip install --upgrade"),
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
