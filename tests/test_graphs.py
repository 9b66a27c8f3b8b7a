"""What golden models compile to, as text, against what was accepted: golden/graphs.py, and that it can fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from golden import graphs
from stcompile.artifact import open_artifact
from stcompile.compiler.passes import GraphPass, pipeline_for
from tests.conftest import Compiled, load_case
from tests.test_golden import CASES, REFUSED, outputs_of
from tests.test_golden_rerankers import CASES as RERANKERS

# Read and traced here; the other pipelines of the other models are compared by `make graphs`.
MODEL = "full_stack"

ACCEPT = "look at it with `python -m golden.graphs --show MODEL`, and accept it with `make graphs-accept`"


@pytest.mark.parametrize("name", [name for name in (*CASES, *RERANKERS) if name not in REFUSED])
def test_a_model_compiles_to_the_accepted_graph(name: str, compiled: Compiled) -> None:
    folder = compiled(name, "onnx-fp32", outputs_of(load_case(name)))
    manifest = open_artifact(folder).manifest
    images = () if manifest.image is None else (manifest.image.graph,)
    found = {
        (name, graph.route): graphs.line_of(graphs.text_of(ir.load(folder / graph.file)))
        for graph in (*manifest.graphs, *images)
    }
    assert graphs.differences(graphs.accepted("cpu-fp32"), found, [name]) == [], ACCEPT


@pytest.fixture
def once_for_all(traced_once: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `graphs.compiled` traces is traced once for all tests."""
    monkeypatch.setattr(graphs, "load_stack", traced_once.load_stack)
    monkeypatch.setattr(graphs, "trace", traced_once.trace)


@pytest.mark.usefixtures("once_for_all")
def test_every_pipeline_makes_the_accepted_graph() -> None:
    for pipeline, texts in graphs.compiled(MODEL).items():
        found = {(MODEL, route): graphs.line_of(text) for route, text in texts.items()}
        assert graphs.differences(graphs.accepted(pipeline), found, [MODEL]) == [], f"{pipeline}: {ACCEPT}"


@pytest.mark.usefixtures("once_for_all")
def test_a_pass_that_stops_firing_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(provider: str, **how: bool) -> tuple[GraphPass, ...]:
        return tuple(item for item in pipeline_for(provider, **how) if item.name != "fuse-attention")

    monkeypatch.setattr("golden.graphs.pipeline_for", without)
    found = {(MODEL, ""): graphs.line_of(graphs.compiled(MODEL, ["cpu-fp32"])["cpu-fp32"][""])}
    (line,) = graphs.differences(graphs.accepted("cpu-fp32"), found, [MODEL])
    assert "Attention -" in line
    assert "Softmax +" in line
    assert line.endswith(f": {MODEL}")


GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[B,3] x) => (float[B,2] y)
{
  sum = Add (x, bias)
  y = Gemm <alpha = 0.5> (sum, weight)
}
"""


def text(graph: str, scale: float = 1.0) -> str:
    weights = {"weight": np.array([[scale, 2.0]] * 3), "bias": np.array([scale, 0.0, 0.0])}
    used = [ir.tensor(value, name=name) for name, value in weights.items() if name in graph]
    return graphs.text_of(ir.from_onnx_text(graph, used))


def test_neither_weights_nor_names_are_in_it() -> None:
    assert text(GRAPH) == text(GRAPH, scale=3.0) == text(GRAPH.replace("sum", "other"))
    assert graphs.line_of(text(GRAPH)).endswith(" Add 1, Gemm 1")


@pytest.mark.parametrize(
    ("change", "to"), [("0.5", "0.25"), ("Add (x, bias)", "Sub (x, bias)"), ("Add (x, bias)", "Add (x, x)")]
)
def test_operators_attributes_and_inputs_are(change: str, to: str) -> None:
    assert graphs.line_of(text(GRAPH)) != graphs.line_of(text(GRAPH.replace(change, to)))


def test_graphs_of_the_same_change_are_told_together() -> None:
    before = {("a", ""): "1 Add 1, Mul 2", ("b", "query"): "2 Add 3, Mul 2", ("c", ""): "3 Add 1", ("d", ""): "4 Add 1"}
    after = {
        ("a", ""): "5 Mul 2, Relu 1",
        ("b", "query"): "6 Add 2, Mul 2, Relu 1",
        ("c", ""): "7 Add 1",
        ("e", ""): "8",
    }
    assert graphs.differences(before, after, "abcde") == [
        "Add -1, Relu +1: a, b:query",
        "the same operators, other inputs or attributes: c",
        "gone: d",
        "new: e",
    ]


def test_either_of_two_graphs_may_be_accepted(tmp_path: Path) -> None:
    """What nearly equal candidates end in, on CPUs whose last bits differ."""
    either = graphs._joined("1 Add 1", "2 Add 2", also=True)
    graphs.write("p", {("a", ""): either, ("b", "query"): "3 Mul 1"}, tmp_path)
    assert (tmp_path / "p.txt").read_text("utf-8").splitlines()[1:] == ["a 1 Add 1", "a 2 Add 2", "b:query 3 Mul 1"]
    before = graphs.accepted("p", tmp_path)
    for line in ("1 Add 1", "2 Add 2"):
        assert graphs.differences(before, {("a", ""): line, ("b", "query"): "3 Mul 1"}, "ab") == []
        assert graphs._joined(before["a", ""], line, also=False) == either
    assert graphs.differences(before, {("a", ""): "4 Add 3", ("b", "query"): "3 Mul 1"}, "ab") == ["Add +2: a"]
    assert graphs._joined(before["a", ""], "4 Add 3", also=False) == "4 Add 3"
