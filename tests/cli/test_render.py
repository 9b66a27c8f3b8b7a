"""Tables for people: what a file says is shown as it says it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stcompile.cli import render
from stcompile.compiler.inspection import inspect
from tests.conftest import GOLDEN, MODELS

# What rich would refuse as markup, leave out, or make a picture of.
ODD = "[/x][bold]:smile:"


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
