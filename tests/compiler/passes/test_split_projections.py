"""SplitProjections: which cuts of a product become cuts of its weight, and which stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from stcompile.compiler.passes import SplitProjections

_START = '<ir_version: 10, opset_import: ["" : 20]> g (float[B,S,8] x) => '

_SPLIT = "(float[B,S,6] a, float[B,S,6] b) { p = MatMul (x, w) a, b = Split <axis = 2, num_outputs = 2> (p) }"
_BIASED = (
    "(float[B,S,6] a, float[B,S,6] b) { p = MatMul (x, w) q = Add (bias, p)"
    " a, b = Split <axis = -1, num_outputs = 2> (q) }"
)
_SLICED = (
    "(float[B,S,5] a, float[B,S,7] b) { p = MatMul (x, w)"
    " a = Slice (p, zero, five, last) b = Slice (p, five, end, last) }"
)
_HEADS = """(float[B,S,2,2] a, float[B,S,2,2] b, float[B,S,2,2] c) {
  p = MatMul (x, w)
  h = Reshape (p, sizes)
  a1 = Slice (h, zero, one, parts)
  b1 = Slice (h, one, two, parts)
  c1 = Slice (h, two, three, parts)
  a = Squeeze (a1, parts)
  b = Squeeze (b1, parts)
  c = Squeeze (c1, parts)
}"""


def build(from_text: Callable[..., ir.Model], body: str) -> ir.Model:
    random = np.random.default_rng(3)
    numbers = {"zero": 0, "one": 1, "two": 2, "three": 3, "five": 5, "last": -1, "parts": -3, "end": 2**63 - 1}
    # Graph outputs stay what they are: a sum of nothing stands between.
    return from_text(
        _START + body,
        w=random.normal(size=(8, 12)).astype(np.float32),
        bias=random.normal(size=12).astype(np.float32),
        sizes=np.array([0, 0, 3, 2, 2]),
        **{name: np.array([value]) for name, value in numbers.items()},
    )


def between(body: str) -> str:
    """The same with what is cut read once more before it is put out."""
    head, _, rest = body.partition(" {")
    names = [part.split()[-1].strip("()") for part in head.split(", ")]
    for name in names:
        rest = rest.replace(f" {name} = ", f" {name}0 = ").replace(f" {name}, ", f" {name}0, ")
        rest = rest.replace(f", {name} = ", f", {name}0 = ")
    ends = " ".join(f"{name} = Abs ({name}0)" for name in names)
    return f"{head} {{{rest.rpartition('}')[0]} {ends} }}"


def feeds() -> list[dict[str, Any]]:
    random = np.random.default_rng(5)
    shapes = ((2, 5, 8), (1, 1, 8))
    return [{"x": random.normal(size=shape).astype(np.float32)} for shape in shapes]


@pytest.mark.parametrize(("body", "parts"), [(_SPLIT, 2), (_BIASED, 2), (_SLICED, 2), (_HEADS, 3)])
def test_each_part_has_a_product_of_its_own(
    body: str, parts: int, from_text: Callable[..., ir.Model], assert_same: Callable[..., None]
) -> None:
    before, model = build(from_text, between(body)), build(from_text, between(body))

    result = SplitProjections()(model)

    assert (result.rewrites, result.refusals) == (1, ())
    operators = Counter(node.op_type for node in model.graph)
    assert operators["MatMul"] == parts
    assert not {"Split", "Slice", "Squeeze"} & set(operators)
    assert [value.name for value in before.graph.outputs] == [value.name for value in model.graph.outputs]
    assert_same(before, model, feeds())
    assert SplitProjections()(model).rewrites == 0


def test_a_weight_that_is_cut_twice_is_cut_in_both_ways(
    from_text: Callable[..., ir.Model], assert_same: Callable[..., None]
) -> None:
    body = (
        "(float[B,S,6] a, float[B,S,6] b, float[B,S,5] c, float[B,S,7] d)"
        " { p = MatMul (x, w) a, b = Split <axis = 2, num_outputs = 2> (p)"
        " y = Abs (x) q = MatMul (y, w) c = Slice (q, zero, five, last) d = Slice (q, five, end, last) }"
    )
    before, model = build(from_text, between(body)), build(from_text, between(body))

    assert SplitProjections()(model).rewrites == 2

    assert_same(before, model, feeds())


@pytest.mark.parametrize(
    "body",
    [
        "(float[B,S,6] c) { p = MatMul (x, w) a, b = Split <axis = 2, num_outputs = 2> (p)"
        " c = Mul (a, b) s = Abs (p) }",
        "(float[B,S,12] d) { p = MatMul (x, w) a = Slice (p, zero, one, one) d = Abs (a) }",
        "(float[B,S,12] p, float[B,S,6] c) { p = MatMul (x, w) a, b = Split <axis = 2, num_outputs = 2> (p)"
        " c = Mul (a, b) }",
        "(float[B,S,12] c) { p = MatMul (x, w) c = Abs (p) }",
    ],
)
def test_what_else_is_read_stays(body: str, from_text: Callable[..., ir.Model]) -> None:
    model = build(from_text, body)
    nodes = [node.op_type for node in model.graph]

    assert SplitProjections()(model).rewrites == 0

    assert [node.op_type for node in model.graph] == nodes
