"""BlockAttention: the same numbers, short texts as they were, nothing square for long ones, and every refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from stcompile.compiler.passes import BlockAttention, CleanGraph, FuseAttention, PoolEarly, final_passes, run_pipeline
from stcompile.compiler.passes import _query_blocks as query_blocks
from stcompile.compiler.passes.base import PassResult

Feeds = dict[str, np.ndarray]
Build = Callable[..., ir.Model]
Trace = Callable[[str], ir.Model]
Compare = Callable[[ir.Model, ir.Model, Sequence[Any]], None]

ARCHITECTURES = (
    *("bert", "distilbert", "mpnet", "roberta", "albert", "electra", "t5", "modernbert", "qwen3", "deberta", "gemma2"),
)

# Of the tiny graphs: texts above 6 tokens are made in blocks of 3 queries.
_DIRECT, _QUERIES = 6, 3

_GRAPH = """
<ir_version: 10, opset_import: ["" : 23]>
g (int64[B,S] input_ids, float[B,2,S,4] q, float[B,2,4,S] k, float[B,2,S,4] v, float[B,1,1,S] m)
  => (float[B,2,S,4] y)
{
  scores = MatMul (q, k)
  masked = Add (scores, m)
  weights = Softmax <axis = -1> (masked)
  mixed = MatMul (weights, v)
  y = Neg (mixed)
}
"""


@pytest.fixture(autouse=True)
def _few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_blocks, "_LEAST_QUERIES", _QUERIES)


def _blocked(model: ir.Model) -> PassResult:
    return BlockAttention(None, direct=_DIRECT, scores=1)(model)


def _prepared(trace: Trace, architecture: str) -> tuple[ir.Model, ir.Model]:
    """A graph after the CPU's passes, and one to rewrite."""
    model, _ = run_pipeline(trace(architecture), (CleanGraph(), FuseAttention(), PoolEarly(), CleanGraph()))
    return model.clone(), model


def _squares(nodes: Iterator[ir.Node]) -> list[str]:
    """The operators that make a value with the sequence's axis twice."""
    shapes = ((node.op_type, node.outputs[0].shape) for node in nodes)
    return [name for name, shape in shapes if shape is not None and sum(str(dim) == "sequence" for dim in shape) > 1]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_same_numbers_whatever_the_length(
    trace: Trace, assert_same: Compare, token_feeds: list[Any], architecture: str
) -> None:
    before, model = _prepared(trace, architecture)
    result = _blocked(model)
    assert (result.rewrites, result.refusals) == (_attentions(before), ())
    assert_same(before, model, token_feeds)


def _attentions(model: ir.Model) -> int:
    return sum(node.op_type in ("Softmax", "Attention") for node in model.graph)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nothing_square_is_made_but_in_branches_for_short_texts(trace: Trace, architecture: str) -> None:
    before, model = _prepared(trace, architecture)
    _blocked(model)
    chosen = [node for node in model.graph if node.op_type == "If"]
    rest = (node for node in model.graph if node.op_type != "If")
    assert _squares(rest) == []
    direct = [node for choice in chosen for node in choice.attributes["else_branch"].as_graph()]
    # What short texts run is what they ran, in the same order, attention by attention.
    assert sorted(_squares(iter(direct))) == sorted(_squares(iter(before.graph)))
    kept = [node.op_type for node in before.graph if node.op_type in ("Attention", "Softmax")]
    assert [node.op_type for node in direct if node.op_type in ("Attention", "Softmax")] == kept


def test_the_row_of_a_mask_that_pooling_takes(from_text: Build, assert_same: Compare) -> None:
    model = from_text(
        """
<ir_version: 10, opset_import: ["" : 23]>
g (int64[B,S] input_ids, bool[B,1,1,S] kept, float[1,1,S,1] bias, int64[B,1,1] position) => (float[B,1,S] y) {
  real = Where (kept, zero, lowest)
  mask = Add (real, bias)
  flat = Squeeze (mask, axis)
  row = GatherND <batch_dims = 1> (flat, position)
  y = Neg (row)
}
""",
        zero=np.zeros((), np.float32),
        lowest=np.array(-9, np.float32),
        axis=np.array([1], np.int64),
    )
    before = model.clone()
    assert _blocked(model).rewrites == 1
    rng = np.random.default_rng(0)
    feeds = [
        {
            "input_ids": np.zeros((batch, length), np.int64),
            "kept": rng.random((batch, 1, 1, length)) < 0.5,
            "bias": rng.normal(size=(1, 1, length, 1)).astype(np.float32),
            "position": rng.integers(0, length, (batch, 1, 1)),
        }
        for batch, length in ((1, 3), (1, 9), (4, 8))
    ]
    assert_same(before, model, feeds)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("axis = -1", "axis = 2", "a softmax is over the queries"),
        ("masked = Add (scores, m)", "masked = LpNormalization (scores)", "LpNormalization is not known"),
        ("mixed = MatMul (weights, v)", "mixed = MatMul (weights, v)\n  loud = ReduceMax (weights)", "ReduceMax takes"),
        ("mixed = MatMul (weights, v)", "back = Transpose <perm = [0, 1, 3, 2]> (q)\n  mixed = Einsum <equation = "
         '"bhqk,bhkd->bhqd"> (weights, v)', "Einsum takes"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_apart_is_refused_and_left(
    from_text: Build, assert_same: Compare, old: str, new: str, reason: str
) -> None:
    assert old in _GRAPH
    model = from_text(_GRAPH.replace(old, new))
    before = model.clone()
    result = _blocked(model)
    assert any(refusal.startswith(reason) for refusal in result.refusals)
    assert_same(before, model, [_inputs(2, 5), _inputs(2, 11)])


def test_halves_compute_in_float32_in_blocks(from_text: Build) -> None:
    model = from_text(_GRAPH.replace("float[", "float16["))
    assert _blocked(model).rewrites == 1
    (choice,) = [node for node in model.graph if node.op_type == "If"]
    branch = choice.attributes["then_branch"].as_graph()
    assert [node.op_type for node in branch].count("Loop") == 1
    casts = {node.attributes["to"].as_int() for node in branch if node.op_type == "Cast"}
    assert casts == {int(ir.DataType.FLOAT), int(ir.DataType.FLOAT16), int(ir.DataType.BOOL)}


def test_models_without_long_texts_are_left_as_they_are(from_text: Build) -> None:
    model = from_text(_GRAPH)
    result = BlockAttention(_DIRECT, direct=_DIRECT)(model)
    assert (result.rewrites, result.refusals) == (0, ("no text has more than 6 positions",))
    assert [node.op_type for node in model.graph] == ["MatMul", "Add", "Softmax", "MatMul", "Neg"]


def test_graphs_without_scores_are_left_as_they_are(from_text: Build) -> None:
    plain = '<ir_version: 10, opset_import: ["" : 23]> g (float[{shape}] x) => (float[{shape}] y) {{ y = Neg (x) }}'
    assert _blocked(from_text(plain.format(shape="B,S"))).refusals == ("no scores occur",)
    assert _blocked(from_text(plain.format(shape="T"))).refusals == ("no input has an axis of positions",)


def test_only_graphs_for_the_cpu_of_onnx_runtime_have_it() -> None:
    assert [item.name for item in final_passes("cpu", 8192)] == ["block-attention"]
    assert final_passes("cuda", 8192) == final_passes("cpu", 8192, openvino=True) == ()


def _inputs(batch: int, length: int) -> Feeds:
    rng = np.random.default_rng(length)
    return {
        "input_ids": np.zeros((batch, length), np.int64),
        "q": rng.normal(size=(batch, 2, length, 4)).astype(np.float32),
        "k": rng.normal(size=(batch, 2, 4, length)).astype(np.float32),
        "v": rng.normal(size=(batch, 2, length, 4)).astype(np.float32),
        "m": rng.normal(size=(batch, 1, 1, length)).astype(np.float32),
    }
