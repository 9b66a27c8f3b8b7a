"""Tables for people: what a file says is shown as it says it."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stcompile.cli import render
from stcompile.compiler.inspection import inspect
from stcompile.compiler.stack.source import ModelSource
from stcompile.errors import ModelFolderError
from tests.conftest import GOLDEN, MODELS

# What rich would refuse as markup, leave out, or make a picture of.
ODD = "[/x][bold]:smile:"

POOLING = "sentence_transformers.models.Pooling"


def _odd(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _odd(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_odd(item) for item in value]
    return ODD if isinstance(value, str) else value


@pytest.mark.parametrize(
    ("path", "places"),
    [(GOLDEN / "artifacts/v4/full_stack-onnx-int8", 60), (MODELS / "router_two_encoders", 10)],
    ids=["artifact", "model"],
)
def test_what_a_file_says_is_no_markup(path: Path, places: int) -> None:
    found = inspect(path)
    shown = io.StringIO()
    Console(file=shown, width=1000).print(render.inspection({**_odd(found), "kind": found["kind"]}))
    assert shown.getvalue().count(ODD) >= places


@pytest.mark.parametrize(
    ("case", "file", "change"),
    [
        ("router_dense_heads", "2_Router/router_config.json", {"parameters": 5}),
        ("full_stack", "sentence_bert_config.json", {"transformer_task": {}}),
        ("full_stack", "sentence_bert_config.json", {"model_args": 7}),
        ("full_stack", "sentence_bert_config.json", {"max_seq_length": "x" * 100_000}),
        ("clip_text", "sentence_bert_config.json", {"modality_config": "x"}),
        ("clip_text", "processor_config.json", {"image_processor": {"image_processor_type": {}}}),
        ("clip_text", "processor_config.json", {"image_processor": {"resample": 2.0}}),
        ("sparse_splade_v5", "config.json", {"architectures": 5}),
        ("full_stack", "modules.json", [{"idx": 0, "name": {}, "path": "", "type": "x"}] * 2),
        ("full_stack", "modules.json", [{"path": "x" * 400, "type": POOLING}]),
        ("full_stack", "modules.json", [{"path": "\ud800", "type": POOLING}]),
    ],
)
def test_a_value_of_another_type_is_shown_as_a_reason_or_refused(
    case: str, file: str, change: Any, tmp_path: Path
) -> None:
    """Found by `python -m reliability`: each where a type was taken for granted."""
    folder = Path(shutil.copytree(MODELS / case, tmp_path / case))
    path = folder / file
    stored = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    path.write_text(json.dumps({**stored, **change} if isinstance(change, dict) else change), "utf-8")
    try:
        found = inspect(ModelSource(str(folder), sparse=case.startswith("sparse")))
    except ModelFolderError:
        return
    assert all(len(reason) <= 2100 for reason in found["unsupported"])
    Console(file=io.StringIO()).print(render.inspection(found))
