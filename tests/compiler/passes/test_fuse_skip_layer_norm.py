"""FuseSkipLayerNorm: with and without a bias, shared sums, and every refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from stcompile.compiler.passes import FuseSkipLayerNorm

_GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[B,S,8] x, float[B,S,8] skip) => (float[B,S,8] y) {
  biased = Add (x, bias)
  total = Add (biased, skip)
  y = LayerNormalization <axis = -1, epsilon = 0.001> (total, gamma, beta)
}
"""
Edit = tuple[str, str]
_EDITS: dict[str, list[Edit]] = {
    "bias": [],
    "bias-on-the-right": [("Add (x, bias)", "Add (bias, x)"), ("Add (biased, skip)", "Add (skip, biased)")],
    "no-bias": [("  biased = Add (x, bias)\n", ""), ("Add (biased", "Add (x")],
    "no-beta": [
        (", gamma, beta)", ", gamma)"),
        ("  biased = Add (x, bias)\n", ""),
        ("Add (biased", "Add (x"),
    ],
    "bias-no-beta": [(", gamma, beta)", ", gamma)")],
    "shared-sum": [
        ("y = Layer", "early = Neg (total)\n  n = Layer"),
        ("beta)", "beta)\n  y = Add (n, early)"),
    ],
    "shared-bias-sum": [("y = Layer", "n = Layer"), ("beta)", "beta)\n  y = Add (n, biased)")],
}


def _build(from_text: Callable[..., ir.Model], edits: list[Edit]) -> ir.Model:
    text = _GRAPH
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    rng = np.random.default_rng(1)
    return from_text(text, **{name: rng.normal(size=8).astype(np.float32) for name in ("bias", "gamma", "beta")})


def _feeds() -> list[dict[str, Any]]:
    rng = np.random.default_rng(2)
    shapes = [(3, 5, 8), (1, 4, 8), (1, 1, 8)]
    return [{name: rng.normal(size=shape).astype(np.float32) for name in ("x", "skip")} for shape in shapes]


@pytest.mark.parametrize("case", _EDITS)
def test_rewrites_and_keeps_the_numbers(
    case: str, from_text: Callable[..., ir.Model], assert_same: Callable[..., None]
) -> None:
    before, model = _build(from_text, _EDITS[case]), _build(from_text, _EDITS[case])

    result = FuseSkipLayerNorm()(model)

    assert (result.rewrites, result.refusals) == (1, ())
    assert "LayerNormalization" not in [node.op_type for node in model.graph]
    assert model.graph.opset_imports["com.microsoft"] == 1
    assert_same(before, model, _feeds())
    assert FuseSkipLayerNorm()(model).rewrites == 0


@pytest.mark.parametrize(
    ("edits", "sentence"),
    [
        ([("(total, gamma", "(x, gamma")], "has no sum before it"),
        ([("B,S,8", "B,2,S,8")], "not known to be (batch, length, hidden)"),
        ([("axis = -1", "axis = 0")], "over more than the last axis"),
        (
            [("(float[B,S,8] y)", "(float[B,S,8] y, float[B,S,1] mean)"), ("y = L", "y, mean = L")],
            "mean or the deviation",
        ),
        (
            [
                ("(total, gamma, beta)", "(total, gamma, shift)"),
                ("  biased =", "  shift = Neg (beta)\n  biased ="),
            ],
            "not constants",
        ),
        ([("(float[B,S,8] y)", "(float[B,S,8] y, float[B,S,8] total)")], "is an output of the graph"),
        ([("float[B,S,8] skip", "float[1,S,8] skip")], "not of one shape"),
        (
            [("LayerNormalization <axis = -1, epsilon = 0.001> (total, gamma, beta)", "Neg (total)")],
            "no LayerNormalization occurs",
        ),
    ],
)
def test_refuses_what_differs(edits: list[Edit], sentence: str, from_text: Callable[..., ir.Model]) -> None:
    result = FuseSkipLayerNorm()(_build(from_text, edits))

    assert result.rewrites == 0
    assert len(result.refusals) == 1
    assert sentence in result.refusals[0]
