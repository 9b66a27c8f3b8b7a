"""PackQKV: groups of two and three, with and without biases, shared weights, and every refusal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from stcompile.compiler.passes import PackQKV

_HEAD = '<ir_version: 10, opset_import: ["" : 20]>\ng (float[B,S,8] x) => (float[B,S,6] y) {\n'
_BIASED = """
  a = MatMul (x, w0)
  a_biased = Add (a, b0)
  b = MatMul (x, w1)
  b_biased = Add (b1, b)
  c = MatMul (x, w2)
  c_biased = Add (c, b2)
  ab = Add (a_biased, b_biased)
  y = Add (ab, c_biased)
}"""
_PLAIN = "a = MatMul (x, w0)\n b = MatMul (x, w1)\n y = Mul (a, b)\n}"
_WIDTHS = "a = MatMul (x, w0)\n b = MatMul (x, narrow)\n y = Mul (a, b)\n}"
_LAYERS = """
  a = MatMul (x, w0)
  b = MatMul (x, w1)
  up = Mul (a, b)
  z = MatMul (up, back)
  c = MatMul (z, w0)
  d = MatMul (z, w1)
  y = Mul (c, d)
}"""


def _build(from_text: Callable[..., ir.Model], body: str) -> ir.Model:
    rng = np.random.default_rng(4)
    shapes = {f"w{i}": (8, 6) for i in range(4)} | {f"b{i}": (6,) for i in range(4)}
    shapes |= {"narrow": (8, 1), "back": (6, 8)}
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return from_text(_HEAD + body, **arrays)


@pytest.mark.parametrize(
    ("body", "rewrites", "weights"),
    [
        (_BIASED, 1, {(8, 18)}),
        (_PLAIN, 1, {(8, 12)}),
        (_WIDTHS, 1, {(8, 7)}),
        (_LAYERS, 2, {(8, 12), (6, 8)}),
    ],
    ids=["biased", "plain", "widths", "shared-by-layers"],
)
def test_rewrites_and_keeps_the_numbers(
    body: str,
    rewrites: int,
    weights: set[tuple[int, int]],
    from_text: Callable[..., ir.Model],
    assert_same: Callable[..., None],
) -> None:
    before, model = _build(from_text, body), _build(from_text, body)

    result = PackQKV()(model)

    assert (result.rewrites, result.refusals) == (rewrites, ())
    tensors = [value.const_value for value in model.graph.initializers.values()]
    shapes = Counter(tuple(tensor.shape.numpy()) for tensor in tensors if tensor is not None)
    # each packed matrix stands once, and the parts it was made of are gone
    assert {shape: number for shape, number in shapes.items() if len(shape) == 2} == dict.fromkeys(weights, 1)
    rng = np.random.default_rng(2)
    assert_same(before, model, [{"x": rng.normal(size=s).astype(np.float32)} for s in ((3, 5, 8), (1, 1, 8))])
    assert PackQKV()(model).rewrites == 0


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (_BIASED.replace("a_biased = Add (a, b0)", "a_biased = Neg (a)"), "some of the projections"),
        (_BIASED.replace("(x, w2)", "(x, w1)\n  more = MatMul (x, w3)"), "more than three projections"),
        (_PLAIN.replace("y =", "w = Neg (w0)\n y ="), "read by another node too"),
        ("y = MatMul (x, w0)\n}", "no two projections share an input"),
    ],
)
def test_refuses_what_differs(body: str, sentence: str, from_text: Callable[..., ir.Model]) -> None:
    result = PackQKV()(_build(from_text, body))

    assert result.rewrites == 0
    assert len(result.refusals) == 1
    assert sentence in result.refusals[0]
