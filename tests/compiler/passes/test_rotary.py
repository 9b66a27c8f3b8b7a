"""Rotary position embeddings in front of FuseAttention: every way that they are written, and what is none of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from stcompile.compiler.passes import FuseAttention

# Two heads of eight numbers, of which the angles are four.
_GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[B,S,16] x, float[B,S,4] angles) => (float[B,S,16] y) {
  few = Unsqueeze (angles, second)
  TABLES
  q = MatMul (x, wq)
  k = MatMul (x, wk)
  v = MatMul (x, wv)
  q_split = Reshape (q, split)
  k_split = Reshape (k, split)
  v_split = Reshape (v, split)
  q_heads = Transpose <perm = [0, 2, 1, 3]> (q_split)
  k_heads = Transpose <perm = [0, 2, 1, 3]> (k_split)
  v_heads = Transpose <perm = [0, 2, 1, 3]> (v_split)
  q_straight = Mul (q_heads, cos)
  k_straight = Mul (k_heads, cos)
  TURN(q)
  TURN(k)
  q_crossed = Mul (q_turn, sin)
  k_crossed = Mul (k_turn, sin)
  q_turned = Add (q_straight, q_crossed)
  k_turned = Add (k_straight, k_crossed)
  k_last = Transpose <perm = [0, 1, 3, 2]> (k_turned)
  scores = MatMul (q_turned, k_last)
  weights = Softmax <axis = -1> (scores)
  weighed = MatMul (weights, v_heads)
  back = Transpose <perm = [0, 2, 1, 3]> (weighed)
  y = Reshape (back, merge)
}
"""
_IN_HALVES = """{0}_low = Slice ({0}_heads, zero, four, last)
  {0}_high = Slice ({0}_heads, four, end, last)
  {0}_minus = Neg ({0}_high)
  {0}_turn = Concat <axis = -1> ({0}_minus, {0}_low)"""
_INTERLEAVED = """{0}_even = Slice ({0}_heads, zero, end, last, two)
  {0}_odd = Slice ({0}_heads, one, end, last, two)
  {0}_minus = Neg ({0}_odd)
  {0}_second = Unsqueeze ({0}_minus, last)
  {0}_first = Unsqueeze ({0}_even, last)
  {0}_pairs = Concat <axis = -1> ({0}_second, {0}_first)
  {0}_turn = Reshape ({0}_pairs, joined)"""
_SAME_HALVES = """both = Concat <axis = -1> (few, few)
  cos = Cos (both)
  sin = Sin (both)"""
_SAME_NEIGHBOURS = """apart = Unsqueeze (few, last)
  both = Concat <axis = -1> (apart, apart)
  every = Reshape (both, joined)
  cos = Cos (every)
  sin = Sin (every)"""
_REPEATED = """few_cos = Cos (few)
  few_sin = Sin (few)
  apart_cos = Unsqueeze (few_cos, last)
  apart_sin = Unsqueeze (few_sin, last)
  both_cos = Expand (apart_cos, twice)
  both_sin = Expand (apart_sin, twice)
  cos = Reshape (both_cos, joined)
  sin = Reshape (both_sin, joined)"""

_KINDS = {
    "halves": (_IN_HALVES, _SAME_HALVES),
    "neighbours": (_INTERLEAVED, _SAME_NEIGHBOURS),
    "neighbours-repeated": (_INTERLEAVED, _REPEATED),
}


def _build(from_text: Callable[..., ir.Model], turn: str, tables: str, *edits: tuple[str, str]) -> ir.Model:
    text = _GRAPH.replace("TABLES", tables)
    for name in ("q", "k"):
        text = text.replace(f"TURN({name})", turn.format(name))
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    rng = np.random.default_rng(3)
    numbers = {"zero": 0, "one": 1, "two": 2, "four": 4, "last": -1, "second": 1, "end": 2**63 - 1}
    return from_text(
        text,
        **{name: rng.normal(size=(16, 16)).astype(np.float32) for name in ("wq", "wk", "wv")},
        **{name: np.array([value]) for name, value in numbers.items()},
        split=np.array([0, 0, 2, 8]),
        merge=np.array([0, 0, 16]),
        joined=np.array([0, 0, 0, 8]),
        twice=np.array([1, 1, 1, 1, 2]),
    )


def _feeds() -> list[dict[str, Any]]:
    rng = np.random.default_rng(5)
    return [
        {
            "x": rng.normal(size=(batch, length, 16)).astype(np.float32),
            "angles": rng.normal(size=(batch, length, 4)).astype(np.float32),
        }
        for batch, length in ((3, 5), (1, 1), (2, 4))
    ]


@pytest.mark.parametrize("kind", _KINDS)
def test_one_operator_turns_queries_and_one_keys(
    kind: str, from_text: Callable[..., ir.Model], assert_same: Callable[..., None]
) -> None:
    before, model = (_build(from_text, *_KINDS[kind]) for _ in range(2))

    result = FuseAttention()(model)

    assert (result.rewrites, result.refusals) == (1, ())
    turned = [node for node in model.graph if node.op_type == "RotaryEmbedding"]
    assert [node.attributes.get_int("interleaved", 0) for node in turned] == [int(kind != "halves")] * 2
    assert not any(node.op_type in ("Neg", "Softmax") for node in model.graph)
    assert_same(before, model, _feeds())


_OTHER_TABLE = "the angles that turn the query heads are not known to be the same "
_UNKNOWN = "rotary position embeddings turn the query heads in a way that is not known"


@pytest.mark.parametrize(
    ("kind", "edits", "sentence"),
    [
        ("halves", ((_SAME_HALVES, _SAME_NEIGHBOURS),), f"{_OTHER_TABLE}in both halves"),
        ("neighbours", ((_SAME_NEIGHBOURS, _SAME_HALVES),), f"{_OTHER_TABLE}for both of each pair"),
        (
            "neighbours",
            (("both = Concat <axis = -1> (apart, apart)", "o = Neg (apart) both = Concat <axis = -1> (apart, o)"),),
            f"{_OTHER_TABLE}for both of each pair",
        ),
        (  # (4, 1) twice is no pair of neighbours
            "neighbours",
            (("both = Concat <axis = -1> (apart, apart)", "both = Concat <axis = -2> (apart, apart)"),),
            f"{_OTHER_TABLE}for both of each pair",
        ),
        (
            "neighbours",
            (("Concat <axis = -1> (q_second, q_first)", "Concat <axis = -1> (q_first, q_second)"),),
            _UNKNOWN,
        ),
        ("neighbours", (("Neg (q_odd)", "Neg (q_even)"), ("Unsqueeze (q_even", "Unsqueeze (q_odd")), _UNKNOWN),
        ("halves", (("Slice (q_heads, zero, four, last)", "Slice (q_heads, four, end, last)"),), _UNKNOWN),
        (
            "neighbours",
            (("q_straight = Mul (q_heads, cos)", "q_straight = Mul (q_heads, sin)"),),
            "query and key are turned by different",
        ),
        (
            "neighbours",
            ((_INTERLEAVED.format("q"), _IN_HALVES.format("q")),),
            f"{_OTHER_TABLE}in both halves",
        ),
        (
            "neighbours",
            (("weights = Softmax", "more = Abs (q_heads) weights = Softmax"), ("=> (", "=> (float[B,2,S,8] more, ")),
            _UNKNOWN,
        ),
    ],
)
def test_what_turns_otherwise_is_refused(
    kind: str, edits: tuple[tuple[str, str], ...], sentence: str, from_text: Callable[..., ir.Model]
) -> None:
    model = _build(from_text, *_KINDS[kind], *edits)

    result = FuseAttention()(model)

    assert result.rewrites == 0
    assert len(result.refusals) == 1
    assert sentence in result.refusals[0]
