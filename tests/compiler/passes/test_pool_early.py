"""PoolEarly: the pooled row in front of the last layer, and every refusal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from stcompile.compiler.passes import PoolEarly

_GRAPH = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[B,S,8] x, float[B,S,8] values, float[B,1,S,S] mask, int64[B,1,1] position) => (float[B,1,8] y) {
  query = MatMul (x, w)
  mixed = Attention <q_num_heads = 2, kv_num_heads = 2> (query, values, values, mask)
  inner = MatMul (mixed, w)
  biased = Add (inner, bias)
  active = Gelu (biased)
  outer = MatMul (active, w)
  total = Add (outer, x)
  normed = LayerNormalization <axis = -1> (total, bias, bias)
  indices = Expand (position, width)
  y = GatherElements <axis = 1> (normed, indices)
}
"""
Edit = tuple[str, str]
Build = Callable[..., ir.Model]


def _build(from_text: Build, edits: list[Edit]) -> ir.Model:
    text = _GRAPH
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    rng = np.random.default_rng(1)
    return from_text(
        text,
        w=rng.normal(size=(8, 8)).astype(np.float32),
        bias=rng.normal(size=8).astype(np.float32),
        width=np.array([1, 1, 8], np.int64),
        one=np.array([1], np.int64),
        last=np.array([-1], np.int64),
        zero=np.array(0, np.int64),
        second=np.array(1, np.int64),
        none=np.array([0], np.int64),
        end=np.array([2**63 - 1], np.int64),
    )


def _feeds(batch: int, length: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    return {
        "x": rng.normal(size=(batch, length, 8)).astype(np.float32),
        "values": rng.normal(size=(batch, length, 8)).astype(np.float32),
        "mask": rng.normal(size=(batch, 1, length, length)).astype(np.float32),
        "position": rng.integers(0, length, (batch, 1, 1)),
    }


def _at(model: ir.Model) -> list[str]:
    """What each row is taken of: the operator, or the input's name."""
    taken = [node.inputs[0] for node in model.graph if node.op_type == "GatherND"]
    return sorted(
        value.name or "" if (node := value.producer()) is None else node.op_type for value in taken if value is not None
    )


_NORM = ("LayerNormalization <axis = -1> (total, bias, bias)", "LayerNormalization <axis = 1> (total, w, w)")
_MEAN = ("Gelu (biased)", "ReduceMean <keepdims = 1> (biased, last)")


@pytest.mark.parametrize(
    ("edits", "taken"),
    [
        ([], ["Squeeze", "x"]),
        ([(", mask)\n", ")\n")], ["x"]),
        # What mixes tokens, or what another reads, ends the way.
        ([("<q_num_heads = 2", "<is_causal = 1, q_num_heads = 2")], ["Attention", "x"]),
        ([("(float[B,1,8] y)", "(float[B,1,8] y, float[B,S,8] active)")], ["Gelu", "x"]),
        ([("Add (inner, bias)", "CumSum (inner, one)")], ["CumSum", "x"]),
        ([("(query, values, values, mask)", "(query, query, values, mask)")], ["MatMul", "Squeeze", "x"]),
        ([_MEAN, ("MatMul (active, w)", "Add (active, inner)")], ["Squeeze", "x"]),
    ],
    ids=["whole", "no-mask", "causal", "output", "mixes", "own-keys", "mean"],
)
def test_rewrites_and_keeps_the_numbers(
    edits: list[Edit], taken: list[str], from_text: Build, assert_same: Callable[..., None]
) -> None:
    before, model = _build(from_text, edits), _build(from_text, edits)

    result = PoolEarly()(model)

    assert (result.rewrites, result.refusals) == (1, ())
    assert _at(model) == taken
    assert "GatherElements" not in [node.op_type for node in model.graph]
    assert_same(before, model, [_feeds(3, 5), _feeds(1, 1), _feeds(1, 6)])
    assert PoolEarly()(model).rewrites == 0


_TAKEN = "GatherElements <axis = 1> (normed, indices)"
_TEXTS = ("int64[B,1,1] position", "int64[B,1,1] position, int64[B,S] input_ids")
_FLAT = ("float[B,1,8] y", "float[B,8] y")


@pytest.mark.parametrize(
    "edits",
    [
        [(_TAKEN, "Gather <axis = 1> (normed, zero)"), _FLAT],
        [(_TAKEN, "Slice (normed, last, end, one)")],
        [(_TAKEN, "Slice (normed, none, one, one)")],
    ],
    ids=["first, as heads take it", "last", "first"],
)
def test_a_fixed_row_is_taken_early_too(edits: list[Edit], from_text: Build, assert_same: Callable[..., None]) -> None:
    before, model = _build(from_text, [*edits, _TEXTS]), _build(from_text, [*edits, _TEXTS])

    result = PoolEarly()(model)

    assert (result.rewrites, result.refusals) == (1, ())
    assert _at(model) == ["Squeeze", "x"]
    feeds = [
        {**_feeds(batch, length), "input_ids": np.zeros((batch, length), np.int64)}
        for batch, length in ((3, 5), (1, 1), (1, 6))
    ]
    assert_same(before, model, feeds)
    assert PoolEarly()(model).rewrites == 0


@pytest.mark.parametrize(
    "edits",
    [
        [(_TAKEN, "Gather <axis = 1> (normed, second)"), _FLAT, _TEXTS],
        [(_TAKEN, "Slice (normed, none, end, one)"), ("float[B,1,8] y", "float[B,S,8] y"), _TEXTS],
        # Nothing tells how many texts there are.
        [(_TAKEN, "Gather <axis = 1> (normed, zero)"), _FLAT],
    ],
    ids=["second", "all", "no-texts"],
)
def test_other_rows_stay_where_they_are(edits: list[Edit], from_text: Build) -> None:
    result = PoolEarly()(_build(from_text, edits))
    assert (result.rewrites, result.refusals) == (0, ("no pooling takes a single row",))


@pytest.mark.parametrize(
    ("edits", "sentence"),
    [
        ([_NORM], "no matrix multiplication stands between"),
        ([("(float[B,1,8] y)", "(float[B,1,8] y, float[B,S,8] normed)")], "no matrix multiplication stands between"),
        ([("Expand (position, width)", "Tile (position, width)")], "not one position for the whole width"),
        ([("int64[B,1,1] position", "int64[B,1,8] position")], "not one position for each text"),
        ([("axis = 1> (normed", "axis = 2> (normed")], "no pooling takes a single row"),
    ],
    ids=["norm", "output", "indices", "positions", "axis"],
)
def test_refuses_what_differs(edits: list[Edit], sentence: str, from_text: Build) -> None:
    model = _build(from_text, edits)

    result = PoolEarly()(model)

    assert result.rewrites == 0
    assert len(result.refusals) == 1
    assert sentence in result.refusals[0]
