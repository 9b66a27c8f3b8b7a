"""Modules whose code comes with the model: nothing of it runs until it is trusted, and then it is traced."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import dynamic_module_utils

import stcompile
from stcompile.compiler.export import export_model
from stcompile.compiler.inspection import inspect
from stcompile.compiler.stack.describe import describe
from stcompile.compiler.stack.load import load_stack
from stcompile.errors import ModelFolderError, StcompileError, UnsupportedError
from tests.conftest import MODELS, load_case
from tests.test_golden import FLOAT32_ROUNDING, scaled_error

Custom = Callable[..., Path]

# The usual module: it changes the dictionary it is given, and loads with one argument, as before 5.0.
MODULE = """
import torch
from torch import nn

{before}

class Mine(nn.Module):
    def forward(self, features):
        x = features["sentence_embedding"]
        features["sentence_embedding"] = {result}
        return {returned}

    @classmethod
    def load(cls, input_path):
        {loading}
        return {loaded}
"""

WHOLE = {"before": "", "result": "2 * x", "returned": "features", "loading": "pass", "loaded": "cls()"}


@pytest.fixture
def custom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Custom:
    """A copy of a golden model with a module of its own behind the others; transformers copies its code to a cache."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [*sys.path])

    def copy(type_path: str = "mine.Mine", **parts: str) -> Path:
        # A name of its own: the cache is by the folder's name
        folder = Path(shutil.copytree(MODELS / "pool_mean", tmp_path / tmp_path.name))
        (folder / "mine.py").write_text(MODULE.format(**{**WHOLE, **parts}), encoding="utf-8")
        (folder / "2_Mine").mkdir()
        rows = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        rows.append({"idx": 2, "name": "2", "path": "2_Mine", "type": type_path})
        (folder / "modules.json").write_text(json.dumps(rows), encoding="utf-8")
        return folder

    return copy


def touching(marker: Path) -> str:
    return f"from pathlib import Path; Path({str(marker)!r}).touch()"


def test_it_is_refused_without_trust() -> None:
    with pytest.raises(UnsupportedError) as caught:
        load_stack(MODELS / "custom_module")
    (reason,) = caught.value.reasons
    assert "module 2 (ScaledTanh) is code of its own (scaled_tanh.ScaledTanh)" in reason
    assert "pass --trust-remote-code (trust_remote_code=True)" in reason


@pytest.mark.parametrize("part", ["before", "loading"])
def test_none_of_its_code_runs_before_it_is_trusted(part: str, custom: Custom, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    folder = custom(**{part: touching(marker)})
    with pytest.raises(UnsupportedError, match="code of its own"):
        load_stack(folder)
    with pytest.raises(UnsupportedError, match="code of its own"):
        export_model(folder, tmp_path / "artifact", "onnx-fp32", texts=["hello"])
    for trusted in (False, True):
        found = inspect(folder, trust_remote_code=trusted)
        assert found["compiles"] is trusted
    assert found["modules"][2]["type_path"] == "mine.Mine"
    assert not marker.exists()
    load_stack(folder, trust_remote_code=True)
    assert marker.exists()


def test_a_folder_cannot_trust_itself(custom: Custom, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    folder = custom(before=touching(marker))
    for file in ("config_sentence_transformers.json", "sentence_bert_config.json", "config.json"):
        config = json.loads((folder / file).read_text(encoding="utf-8"))
        (folder / file).write_text(json.dumps({**config, "trust_remote_code": True}), encoding="utf-8")
    with pytest.raises(UnsupportedError, match="code of its own"):
        load_stack(folder)
    assert not marker.exists()


def test_an_installed_package_is_not_imported_without_trust(
    custom: Custom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "somebodys_package.py").write_text(touching(marker), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnsupportedError, match=r"module 2 \(Layer\) is code of its own \(somebodys_package\.Layer\)"):
        load_stack(custom("somebodys_package.Layer"))
    assert not marker.exists()
    assert "somebodys_package" not in sys.modules


def test_a_module_of_a_route_is_named_with_its_route(tmp_path: Path) -> None:
    folder = shutil.copytree(MODELS / "router_first_static_query", tmp_path / "model")
    config = json.loads((folder / "router_config.json").read_text(encoding="utf-8"))
    config["types"]["document_2_Dense"] = "mine.Mine"
    (folder / "router_config.json").write_text(json.dumps(config), encoding="utf-8")
    (reason,) = describe(folder).unsupported
    assert "module 0 (Router), route document, module 2 (Mine) is code of its own (mine.Mine)" in reason


@pytest.mark.more_models
def test_it_is_traced_once_it_is_trusted(custom: Custom, tmp_path: Path) -> None:
    case = load_case("pool_mean")
    folder = custom()
    export_model(folder, tmp_path / "artifact", "onnx-fp32", texts=["hello", "a b c"], trust_remote_code=True)
    vectors = stcompile.load(tmp_path / "artifact").encode(case.texts)
    assert scaled_error(2 * case.expected(), vectors).max() <= FLOAT32_ROUNDING
    assert stcompile.verify_artifact(tmp_path / "artifact", folder, texts=["hello"], trust_remote_code=True).passed


def test_it_may_change_the_width(custom: Custom) -> None:
    stack = load_stack(custom(result="torch.cat([x, -x], dim=1)"), trust_remote_code=True)
    assert stack.dim == 64
    expected = load_case("pool_mean").expected()
    found = stack.encode(load_case("pool_mean").texts)
    assert scaled_error(np.concatenate([expected, -expected], axis=1), found).max() <= FLOAT32_ROUNDING


FAILING: dict[str, tuple[str, dict[str, str], str]] = {
    "its import": ("mine.Mine", {"before": "1 / 0"}, r"custom module mine\.Mine fails to load \(ZeroDivisionError"),
    "its syntax": ("mine.Mine", {"before": "def"}, r"custom module mine\.Mine fails to load \(SyntaxError"),
    "its load": ("mine.Mine", {"loading": "raise KeyError('no')"}, r"mine\.Mine fails to load \(KeyError: 'no'\)"),
    "its name": ("mine.Other", {}, r"custom module mine\.Other fails to load \(AttributeError"),
    "its file": ("nowhere.Mine", {}, r"custom module nowhere\.Mine fails to load \(ModuleNotFoundError"),
    "a bare name": ("Mine", {}, "custom module Mine fails to load"),
    "a path out of the folder": ("../mine.Mine", {}, r"custom module \.\./mine\.Mine fails to load"),
    "a function": ("os.system", {}, r"custom module os\.system fails to load \(AttributeError"),
    "no module": ("mine.Mine", {"loaded": "object()"}, r"custom module mine\.Mine is not a torch\.nn\.Module"),
    "no dictionary": ("mine.Mine", {"returned": "x"}, r"custom module mine\.Mine returned Tensor, not the feature dic"),
    "nothing": ("mine.Mine", {"returned": "None"}, r"custom module mine\.Mine returned NoneType, not the feature dict"),
    "no embedding": ("mine.Mine", {"returned": "{}"}, "its modules do not work together"),
    "its forward": ("mine.Mine", {"result": "x @ x"}, r"its modules do not work together \(RuntimeError"),
}


@pytest.mark.parametrize("name", FAILING)
def test_code_that_fails_is_one_clear_error(name: str, custom: Custom) -> None:
    type_path, parts, sentence = FAILING[name]
    with pytest.raises(StcompileError, match=sentence) as caught:
        load_stack(custom(type_path, **parts), trust_remote_code=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["../elsewhere", "/etc"])
def test_its_folder_cannot_be_outside_of_the_model(path: str, custom: Custom, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    folder = custom(before=touching(marker))
    rows: list[dict[str, Any]] = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    rows[2]["path"] = path
    (folder / "modules.json").write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(ModelFolderError, match="outside the folder"):
        load_stack(folder, trust_remote_code=True)
    assert not marker.exists()
