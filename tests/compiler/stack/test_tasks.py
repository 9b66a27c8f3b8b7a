"""Modules that are called with `task`: each task is a graph, and gets what sentence-transformers gives it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

import stcompile
from stcompile.compiler.export import export_model
from stcompile.compiler.inspection import inspect
from stcompile.compiler.stack.load import load_stack
from stcompile.compiler.stack.save import save_stack
from stcompile.errors import InputError, UnsupportedError
from tests.conftest import MODELS
from tests.own_network import edit, own_network

TEXTS = ["the quick brown fox", "a", "how are you doing today my friend"]

# Of two float32 computations of the same few operations.
ROUNDING = 1e-6

# One adapter a task, as networks with LoRA by task have them; without a task the network's own default.
BY_TASK = """
def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, task="none", return_dict=None):
    known = {None: 0, "none": 0, "query": 1, "document": 2, "classification": 3, "passage": 2}
    return self.answer(input_ids, self.adapters[known[task]])
"""

IGNORANT = """
def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, return_dict=None):
    return self.answer(input_ids, 0)
"""

OPEN = """
def forward(self, input_ids=None, attention_mask=None, **kwargs):
    return self.answer(input_ids, self.adapters[1] if kwargs.get("task") == "query" else 0)
"""

OTHER = """
def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, adapter=None, return_dict=None):
    return self.answer(input_ids, 0 if adapter is None else self.adapters[adapter])
"""

TASK = {"kwargs": ["task"]}


pytestmark = pytest.mark.usefixtures("own_code")


def folder_of(tmp_path: Path, forward: str, row: dict[str, Any] | None = None, **config: Any) -> Path:
    return own_network(tmp_path / f"model_{tmp_path.name}", forward, row, **config)


def theirs(folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu", trust_remote_code=True)


def worst(left: Any, right: Any) -> float:
    return float(np.abs(np.asarray(left) - np.asarray(right)).max())


def test_every_task_of_an_artifact_gets_its_own_vectors(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, BY_TASK, TASK, lora_adaptations=["classification"])
    artifact = export_model(folder, tmp_path / "out", "onnx-fp32", texts=TEXTS, trust_remote_code=True)
    encoder, reference = stcompile.load(artifact.folder), theirs(folder)
    assert {graph.external_data for graph in artifact.manifest.graphs} == {"weights.data"}
    for method in ("encode", "encode_query", "encode_document"):
        assert worst(getattr(encoder, method)(TEXTS), getattr(reference, method)(TEXTS)) < ROUNDING, method
    assert set(encoder.tasks) == {"query", "document", "classification"}
    found = encoder.encode(TEXTS, task="classification")
    assert worst(found, reference.encode(TEXTS, task="classification")) < ROUNDING
    assert worst(found, encoder.encode(TEXTS)) > 0.01
    # The network knows it, and the artifact says that it does not, instead of taking another's graph.
    with pytest.raises(InputError, match=r"no route for task 'passage'.*'classification'"):
        encoder.encode(TEXTS, task="passage")


def test_the_names_of_prompts_are_tasks_too(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, BY_TASK, TASK)
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"passage": "p: ", "odd": "o: "}}))
    stack = load_stack(folder, trust_remote_code=True)
    assert stack.routing is not None
    # One graph for two tasks that are one to the network; none for what fails in it.
    assert stack.routing.tasks == {"query": "query", "document": "document", "passage": "document"}
    assert (stack.routing.default, stack.routing.otherwise) == ("default", None)
    for task in (None, *stack.routing.tasks):
        assert worst(stack.encode(TEXTS, task=task), theirs(folder).encode(TEXTS, task=task)) < ROUNDING, task


@pytest.mark.parametrize(
    ("forward", "row"),
    [
        # It never sees the task: modules.json does not call it with one.
        (BY_TASK, {}),
        # It is called with one, and has no such parameter.
        (IGNORANT, TASK),
        # sentence-transformers 6.2 keeps the task from a forward(**kwargs) that does not name it.
        (OPEN, TASK),
        # An argument of encode itself, never handed on.
        (OTHER, {"kwargs": ["truncate_dim"]}),
        # A keyword that the network does not have is dropped.
        (OTHER, {"kwargs": ["flavour"]}),
    ],
)
def test_what_no_task_reaches_is_one_graph(forward: str, row: dict[str, Any], tmp_path: Path) -> None:
    folder = folder_of(tmp_path, forward, row)
    stack = load_stack(folder, trust_remote_code=True)
    assert stack.routing is None
    assert worst(stack.encode(TEXTS), theirs(folder).encode_query(TEXTS)) < ROUNDING


@pytest.mark.parametrize("forward", [BY_TASK, IGNORANT])
def test_a_network_in_a_router_is_told_the_task_without_kwargs(forward: str, tmp_path: Path) -> None:
    inner = own_network(tmp_path / f"inner_{tmp_path.name}", forward)
    folder = tmp_path / f"model_{tmp_path.name}"
    shutil.copytree(inner, folder / "0_Own")
    shutil.move(folder / "0_Own/1_Pooling", folder / "1_Pooling")
    (folder / "0_Own/modules.json").unlink()
    # sentence-transformers looks for the code in the model's root.
    for file in (folder / "0_Own").glob("*.py"):
        shutil.copy(file, folder)
    router = {
        "types": {"0_Own": "sentence_transformers.models.Transformer"},
        "structure": {"query": ["0_Own"], "document": ["0_Own"]},
        "parameters": {"default_route": "document", "allow_empty_key": True},
    }
    (folder / "router_config.json").write_text(json.dumps(router))
    kinds = {"": "Router", "1_Pooling": "Pooling"}
    rows = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(rows))
    stack = load_stack(folder, trust_remote_code=True)
    assert stack.routing is not None
    assert list(stack.routing.tasks) == ["query", "document"]
    reference = theirs(folder)
    for task in (None, "query", "document"):
        assert worst(stack.encode(TEXTS, task=task), reference.encode(TEXTS, task=task)) < ROUNDING, task


OWN_MODULE = """
import torch
from torch import nn

class Mine(nn.Module):
    {declared}

    def forward(self, features, task=None):
        features["sentence_embedding"] = features["sentence_embedding"] * {{None: 1, "query": 2}}.get(task, 3)
        return features

    @classmethod
    def load(cls, input_path):
        return cls()
"""


@pytest.mark.parametrize(("declared", "row"), [("pass", TASK), ('forward_kwargs = {"task"}', {})])
def test_a_module_of_its_own_code_is_told_the_task(declared: str, row: dict[str, Any], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "pool_mean", tmp_path / f"model_{tmp_path.name}"))
    (folder / "mine.py").write_text(OWN_MODULE.format(declared=declared), encoding="utf-8")
    (folder / "2_Mine").mkdir()
    edit(
        folder / "modules.json",
        lambda rows: [*rows, {"idx": 2, "name": "2", "path": "2_Mine", "type": "mine.Mine", **row}],
    )
    stack, reference = load_stack(folder, trust_remote_code=True), theirs(folder)
    assert stack.routing is not None
    for task in (None, "query", "document"):
        expected = reference.encode(TEXTS, task=task)
        assert worst(stack.encode(TEXTS, task=task), expected) < 3 * ROUNDING * np.abs(expected).max(), task


def test_the_keywords_of_a_stack_are_saved(tmp_path: Path) -> None:
    stack = load_stack(MODELS / "pool_mean")
    stack.routes[""].front.keywords = ("task",)
    save_stack(stack, tmp_path / "saved")
    assert json.loads((tmp_path / "saved/modules.json").read_text())[0]["kwargs"] == ["task"]


def test_a_keyword_that_a_network_reads_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, OTHER, {"kwargs": ["task", "adapter"]})
    with pytest.raises(
        UnsupportedError, match=r"module 0 \(Transformer\) is called with the keywords adapter, .*remove"
    ):
        load_stack(folder, trust_remote_code=True)


@pytest.mark.parametrize("value", ["task", None, 3, {"task": 1}, ["task", 5], [["task"]]])
def test_malformed_keywords_are_one_sentence(value: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "pool_mean", tmp_path / "model"))
    edit(folder / "modules.json", lambda rows: [{**rows[0], "kwargs": value}, *rows[1:]])
    (reason,) = inspect(folder)["unsupported"]
    assert reason.startswith("module 0 (Transformer): its kwargs in modules.json are ")


def test_what_fails_in_sentence_transformers_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "full_stack", tmp_path / "model"))
    edit(folder / "modules.json", lambda rows: [{**row, "kwargs": ["task"]} for row in rows])
    # Pooling takes any keyword and looks at none; these take none.
    reasons = inspect(folder)["unsupported"]
    assert [reason.partition(":")[0].partition("(")[2] for reason in reasons] == [
        *("Dense)", "LayerNorm)", "Dropout)", "Dense)", "Normalize)")
    ]
    with pytest.raises(TypeError):
        SentenceTransformer(str(folder), device="cpu").encode_query(["a"])


def test_two_modules_of_one_name_are_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "full_stack", tmp_path / "model"))
    edit(folder / "modules.json", lambda rows: [{**row, "name": "same"} for row in rows])
    (reason,) = inspect(folder)["unsupported"]
    assert "several modules are named 'same'" in reason
