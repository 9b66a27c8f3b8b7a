"""FuseGelu: the GELU by tanh as networks write it, and what nearly is one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from stcompile.compiler.passes import FuseGelu

Edit = tuple[str, str]

_GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[B,S,8] x) => (float[B,S,8] y) {
  half = Mul (x, one_half)
  cube = Pow (x, three)
  small = Mul (cube, cubic)
  sum = Add (x, small)
  inner = Mul (sum, root)
  tanh = Tanh (inner)
  more = Add (tanh, one)
  y = Mul (half, more)
}
"""


def build(from_text: Callable[..., ir.Model], edits: list[Edit]) -> ir.Model:
    text = _GRAPH
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    numbers = {"one_half": 0.5, "three": 3, "cubic": 0.044715, "root": 0.7978845608028654, "one": 1, "two": 2}
    return from_text(text, **{name: np.array(value, np.float32) for name, value in numbers.items()})


@pytest.mark.parametrize(
    "edits",
    [
        [],
        [("Mul (x, one_half)", "Mul (one_half, x)"), ("Add (x, small)", "Add (small, x)")],
        [("Mul (half, more)", "Mul (more, half)"), ("Add (tanh, one)", "Add (one, tanh)")],
    ],
)
def test_rewrites_and_keeps_the_numbers(
    edits: list[Edit], from_text: Callable[..., ir.Model], assert_same: Callable[..., None]
) -> None:
    before, model = build(from_text, edits), build(from_text, edits)

    result = FuseGelu()(model)

    assert (result.rewrites, result.refusals) == (1, ())
    assert Counter(node.op_type for node in model.graph) == {"Gelu": 1}
    wide = np.random.default_rng(2).normal(size=(3, 5, 8)).astype(np.float32) * 3
    assert_same(before, model, [{"x": wide}, {"x": wide[:1, :1]}])
    assert FuseGelu()(model).rewrites == 0


@pytest.mark.parametrize(
    ("edits", "sentence"),
    [
        ([("Pow (x, three)", "Pow (x, two)")], "Pow by 3 was expected"),
        ([("Mul (cube, cubic)", "Mul (cube, one_half)")], "Mul by 0.044715 was expected"),
        ([("Mul (sum, root)", "Mul (sum, one)")], "Mul by 0.797885 was expected"),
        ([("Add (tanh, one)", "Add (tanh, two)")], "Add by 1 was expected"),
        ([("Mul (x, one_half)", "Mul (x, two)")], "Mul by 0.5 was expected"),
        ([("Mul (x, one_half)", "Mul (small, one_half)")], "not of a sum of x and its cube"),
        ([("=> (float[B,S,8] y)", "=> (float[B,S,8] y, float[B,S,8] inner)")], "used elsewhere too"),
        ([("Mul (half, more)", "Add (half, more)")], "not the factor of a GELU"),
        ([("Add (x, small)", "Sub (x, small)")], "not of a sum of x and its cube"),
    ],
)
def test_refuses_what_differs(edits: list[Edit], sentence: str, from_text: Callable[..., ir.Model]) -> None:
    model = build(from_text, edits)
    nodes = [node.op_type for node in model.graph]

    result = FuseGelu()(model)

    assert result.rewrites == 0
    assert sentence in " ".join(result.refusals)
    assert [node.op_type for node in model.graph] == nodes
