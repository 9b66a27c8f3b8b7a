"""FuseRmsNorm: the ways networks write it, and what nearly is one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from stcompile.compiler.passes import FuseRmsNorm

Edit = tuple[str, str]

_GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[B,S,8] x) => (float[B,S,8] y) {
  squares = Pow (x, two)
  mean = ReduceMean <keepdims = 1> (squares, last)
  more = Add (mean, little)
  root = Sqrt (more)
  inverse = Reciprocal (root)
  normal = Mul (x, inverse)
  y = Mul (normal, gain)
}
"""


def build(from_text: Callable[..., ir.Model], *edits: Edit) -> ir.Model:
    text = _GRAPH
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    random = np.random.default_rng(3)
    return from_text(
        text,
        two=np.array(2, np.float32),
        three=np.array(3, np.float32),
        little=np.array(1e-3, np.float32),
        last=np.array([-1]),
        second=np.array([1]),
        gain=random.normal(size=8).astype(np.float32),
        one=np.array([0.5], np.float32),
    )


def feeds() -> list[dict[str, Any]]:
    random = np.random.default_rng(5)
    wide = random.normal(size=(2, 5, 8)).astype(np.float32)
    return [{"x": wide}, {"x": wide * 1e-3}, {"x": np.zeros((1, 1, 8), np.float32)}]


@pytest.mark.parametrize(
    "edits",
    [
        (),
        [("Pow (x, two)", "Mul (x, x)")],
        [("Mul (normal, gain)", "Mul (gain, normal)")],
        [("Add (mean, little)", "Add (little, mean)")],
        [("inverse = Reciprocal (root)\n", ""), ("Mul (x, inverse)", "Div (x, root)")],
    ],
)
def test_rewrites_and_keeps_the_numbers(
    edits: list[Edit], from_text: Callable[..., ir.Model], assert_same: Callable[..., None]
) -> None:
    before, model = build(from_text, *edits), build(from_text, *edits)

    result = FuseRmsNorm()(model)

    assert (result.rewrites, result.refusals) == (1, ())
    assert Counter(node.op_type for node in model.graph) == {"RMSNormalization": 1}
    assert dict(model.graph.opset_imports) == {"": 23}
    assert_same(before, model, feeds())
    assert FuseRmsNorm()(model).rewrites == 0


@pytest.mark.parametrize(
    ("edits", "sentence"),
    [
        ([("Pow (x, two)", "Pow (x, three)")], "not of squares"),
        ([("(squares, last)", "(squares, second)")], "not over the last axis"),
        ([("Add (mean, little)", "Add (mean, mean)")], "no constant number is added"),
        ([("Mul (x, inverse)", "Mul (squares, inverse)")], "used elsewhere too"),
        ([("=> (float[B,S,8] y)", "=> (float[B,S,8] y, float[B,S,1] root)")], "used elsewhere too"),
        ([("=> (float[B,S,8] y)", "=> (float[B,S,8] y, float[B,S,8] normal)")], "used elsewhere too"),
        ([("Mul (normal, gain)", "Mul (normal, one)")], "not multiplied by a constant vector"),
        ([("Mul (normal, gain)", "Add (normal, gain)")], "not multiplied by a constant vector"),
    ],
)
def test_refuses_what_differs(edits: list[Edit], sentence: str, from_text: Callable[..., ir.Model]) -> None:
    model = build(from_text, *edits)
    nodes = [node.op_type for node in model.graph]

    result = FuseRmsNorm()(model)

    assert result.rewrites == 0
    assert sentence in " ".join(result.refusals)
    assert [node.op_type for node in model.graph] == nodes
    assert dict(model.graph.opset_imports) == {"": 20}


def test_a_root_of_something_else_is_left_alone(from_text: Callable[..., ir.Model]) -> None:
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[B] x) => (float[B] y) { y = Sqrt (x) }'
    assert FuseRmsNorm()(from_text(text)).rewrites == 0
