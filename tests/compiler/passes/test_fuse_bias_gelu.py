"""FuseBiasGelu: the exact Gelu of a biased input, and every refusal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from stcompile.compiler.passes import FuseBiasGelu

_GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[B,S,8] x) => (float[B,S,8] y) {
  biased = Add (x, bias)
  y = Gelu (biased)
}
"""
Edit = tuple[str, str]


def _build(from_text: Callable[..., ir.Model], edits: list[Edit], size: int = 8) -> ir.Model:
    text = _GRAPH
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return from_text(text, bias=np.random.default_rng(1).normal(size=size).astype(np.float32))


@pytest.mark.parametrize("edits", [[], [("(x, bias)", "(bias, x)")]], ids=["right", "left"])
def test_rewrites_and_keeps_the_numbers(
    edits: list[Edit], from_text: Callable[..., ir.Model], assert_same: Callable[..., None]
) -> None:
    before, model = _build(from_text, edits), _build(from_text, edits)

    result = FuseBiasGelu()(model)

    assert (result.rewrites, result.refusals) == (1, ())
    assert [node.op_type for node in model.graph] == ["BiasGelu"]
    assert model.graph.opset_imports["com.microsoft"] == 1
    rng = np.random.default_rng(2)
    assert_same(before, model, [{"x": rng.normal(size=s).astype(np.float32)} for s in ((3, 5, 8), (1, 1, 8))])
    assert FuseBiasGelu()(model).rewrites == 0


@pytest.mark.parametrize(
    ("edits", "size", "sentence"),
    [
        ([("Gelu (", 'Gelu <approximate = "tanh"> (')], 8, "tanh approximation"),
        ([("Gelu (biased)", "Gelu (x)")], 8, "has no bias before it"),
        ([("(float[B,S,8] y)", "(float[B,S,8] y, float[B,S,8] biased)")], 8, "is used elsewhere too"),
        ([("(x, bias)", "(x, x)")], 8, "no constant of one axis"),
        ([], 1, "no constant of one axis"),
        ([("Gelu (biased)", "Neg (biased)")], 8, "no Gelu occurs"),
    ],
)
def test_refuses_what_differs(edits: list[Edit], size: int, sentence: str, from_text: Callable[..., ir.Model]) -> None:
    result = FuseBiasGelu()(_build(from_text, edits, size))

    assert result.rewrites == 0
    assert len(result.refusals) == 1
    assert sentence in result.refusals[0]
