"""Manifests and reports that somebody wrote by hand: they load and work, or are refused in one sentence."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from rich.console import Console

import stcompile
from stcompile.artifact import open_artifact
from stcompile.artifact.manifest import MANIFEST_NAME, _digest
from stcompile.cli import render
from stcompile.compiler.inspection import inspect
from stcompile.errors import ArtifactError, StcompileError
from tests.conftest import GOLDEN

# One of each schema, engine, text front end and number of routes.
REAL = [
    "v1/pool_mean_with_prompt-onnx-fp32",
    "v2/router_first_static_query-onnx-fp32",
    "v2/wordemb_wordweights_lstm-onnx-fp16",
    "v2/bow_dense_normalize-onnx-fp32",
    "v3/full_stack-onnx-int8",
    "v3/backbone_qwen3_lasttoken-openvino-int8",
    "v4/router_first_static_query-onnx-fp32",
    "v9/full_stack-onnx-int8",
]

# One of each place where a report was kept, with everything that one may tell.
REPORTED = ["v1/full_stack-onnx-int8-dynamic", "v3/backbone_qwen3_lasttoken-openvino-int8", "v4/full_stack-onnx-int8"]

# Every kind of value JSON has, and the ones at the edges of what a field may hold.
VALUES = some.one_of(
    some.none(),
    some.booleans(),
    some.integers(-2, 5),
    some.sampled_from([2**16, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 10**400, -(10**400), 0.5, -1.5, 1e308, 1e-320]),
    some.sampled_from([float("nan"), float("inf"), -float("inf")]),
    some.sampled_from(["", "x", "right", "left", "cosine", "static", "bow", "words", "transformer", "query", "none"]),
    some.sampled_from(["../model.onnx", "/etc/hostname", "a\0b", "manifest.json", "tokenizer.json", "model.onnx"]),
    some.sampled_from(["input_ids", "offsets", "prompt_length", "token_type_ids", "sentence_embedding", "openvino"]),
    some.text(max_size=4),
    # what rich would take for markup
    some.sampled_from(["[/x]", "[bold", ":smile:", "\\"]),
    some.sampled_from([[], {}, [[]], {"": {}}, ["x"], {"query": 5}, {"query": "x"}, json.loads("[" * 200 + "]" * 200)]),
)

REMOVE = object()


@cache
def body_of(name: str, file: str = MANIFEST_NAME) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((GOLDEN / "artifacts" / name / file).read_text(encoding="utf-8"))
    body.pop("digest", None)
    return body


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value, the outer ones first."""
    if path:
        yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


@cache
def places_of(name: str, file: str = MANIFEST_NAME) -> list[tuple[Any, ...]]:
    """What the plan of a quantization says of a layer is said of each alike; one is enough."""
    found = places(body_of(name, file))
    return [path for path in found if path[:2] != ("quantization", "layers") or path[2:3] in ((), (0,))]


def changed(body: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    *steps, last = path
    holder: Any = body
    for step in steps:
        try:
            holder = holder[step]
        except (KeyError, IndexError, TypeError):  # an earlier change took it away
            return
    if isinstance(holder, dict) or (isinstance(holder, list) and isinstance(last, int) and last < len(holder)):
        if value is REMOVE:
            holder.pop(last, None) if isinstance(holder, dict) else holder.pop(last)
        else:
            holder[last] = copy.deepcopy(value)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("crafted")
    names = dict.fromkeys([*REAL, *REPORTED])
    return {name: Path(shutil.copytree(GOLDEN / "artifacts" / name, home / name.replace("/", "-"))) for name in names}


def crafted(data: some.DataObject, name: str, file: str = MANIFEST_NAME) -> dict[str, Any]:
    """What a real file holds, with one to three of its places changed."""
    body = copy.deepcopy(body_of(name, file))
    for path in data.draw(some.lists(some.sampled_from(places_of(name, file)), min_size=1, max_size=3)):
        changed(body, path, data.draw(some.one_of(VALUES, some.just(REMOVE))))
    return body


some_files = settings(
    derandomize=True, deadline=None, max_examples=100, database=None, suppress_health_check=list(HealthCheck)
)
many_files = settings(some_files, max_examples=400)


@given(data=some.data())
@some_files
def test_a_crafted_manifest_loads_or_is_refused(data: some.DataObject, copies: dict[str, Path]) -> None:
    _loads_or_is_refused(data, copies)


@pytest.mark.more_models
@given(data=some.data())
@many_files
def test_many_crafted_manifests_load_or_are_refused(data: some.DataObject, copies: dict[str, Path]) -> None:
    _loads_or_is_refused(data, copies)


def _loads_or_is_refused(data: some.DataObject, copies: dict[str, Path]) -> None:
    name = data.draw(some.sampled_from(REAL))
    body = crafted(data, name)
    _write(copies[name], body)
    try:
        open_artifact(copies[name])
    except ArtifactError as error:
        _check_sentence(error)
        return
    try:
        encoder = stcompile.load(copies[name], threads=1)
        vectors = encoder.encode_query(["hello world", ""])
        assert encoder.similarity(vectors, vectors).shape == (2, 2)
        assert encoder.prompts.keys() <= body["prompts"].keys()
    except StcompileError as error:
        _check_sentence(error)


@given(data=some.data())
@some_files
def test_a_crafted_report_is_shown_or_refused(data: some.DataObject, copies: dict[str, Path]) -> None:
    _is_shown_or_refused(data, copies)


@pytest.mark.more_models
@given(data=some.data())
@many_files
def test_many_crafted_reports_are_shown_or_refused(data: some.DataObject, copies: dict[str, Path]) -> None:
    _is_shown_or_refused(data, copies)


def _is_shown_or_refused(data: some.DataObject, copies: dict[str, Path]) -> None:
    """Its file, or before schema 4 two of them, changed together with the hash that the manifest has of it."""
    name = data.draw(some.sampled_from(REPORTED))
    file = "report.json" if name.startswith("v4") else "parity.json"
    in_manifest = file == "parity.json" and data.draw(some.booleans())
    body = crafted(data, name) if in_manifest else copy.deepcopy(body_of(name))
    content = json.dumps(body_of(name, file) if in_manifest else crafted(data, name, file)).encode()
    (copies[name] / file).write_bytes(content)
    entries = body.get("files")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("path") == file:
            entry |= {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    _write(copies[name], body)
    try:
        found = inspect(copies[name])
    except ArtifactError as error:
        _check_sentence(error)
        return
    json.dumps(found, allow_nan=False)
    shown = io.StringIO()
    Console(file=shown).print(render.inspection(found))
    assert "against sentence-transformers: " in shown.getvalue()


def _write(folder: Path, body: dict[str, Any]) -> None:
    text = json.dumps({**body, "digest": _signed(body)})
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")


def _signed(body: dict[str, Any]) -> str:
    try:
        return _digest(body)
    except ValueError:
        return ""


def _check_sentence(error: Exception) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 600
