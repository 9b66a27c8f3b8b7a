"""Linear layers over flattened tokens: found although torch's exporter writes them as Gemm, and the same numbers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from stcompile.compiler.quantize.layers import find_layers, split_token_gemms
from tests.compiler.quantize.graphs import BIAS, OUT, WEIGHT, WIDTH, operators, parsed, run, states

X = np.random.default_rng(51).standard_normal((3, 5, WIDTH)).astype(np.float32)

# Gemm and MatMul add up in another order.
ROUNDING = 1e-5


def graph(gemm: str) -> ir.Model:
    """x -> Reshape to rows -> Gemm -> Reshape back."""
    return parsed(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[batch, sequence, {WIDTH}] x) => (float[batch, sequence, {OUT}] out) {{
            rows = Reshape(x, flat)
            product = {gemm}
            leading = Shape<start = 0, end = 2>(x)
            shape = Concat<axis = 0>(leading, width)
            out = Reshape(product, shape)
        }}
        """,
        flat=np.array([-1, WIDTH]),
        width=np.array([OUT]),
        turned=WEIGHT.T.copy(),
    )


@pytest.mark.parametrize(
    ("gemm", "biased"),
    [
        ("Gemm(rows, weight, bias)", True),
        ("Gemm<alpha = 1.0, beta = 1.0, transA = 0>(rows, weight, bias)", True),
        ("Gemm<transB = 1>(rows, turned, bias)", True),
        ("Gemm<transB = 1>(rows, turned)", False),
        ("Gemm(rows, weight)", False),
    ],
)
def test_a_gemm_over_tokens_becomes_a_layer(gemm: str, biased: bool) -> None:
    model = graph(gemm)
    before = run(model, x=X)[0]
    assert find_layers(model.graph) == []
    assert split_token_gemms(model) == 1
    assert "Gemm" not in operators(model)
    (layer,) = find_layers(model.graph)
    assert np.array_equal(layer.weights[0], WEIGHT)
    assert ("Add" in operators(model)) is biased
    (after,) = run(model, x=X)
    expected = X.astype(np.float64) @ WEIGHT + (BIAS if biased else 0)
    for found in (before, after):
        np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING)
    assert split_token_gemms(model) == 0, "there is nothing left to do"


@pytest.mark.parametrize(
    "gemm",
    ["Gemm<alpha = 0.5>(rows, weight, bias)", "Gemm<beta = 2.0>(rows, weight, bias)", "MatMul(rows, weight)"],
)
def test_another_product_is_left_alone(gemm: str) -> None:
    model = graph(gemm)
    before = states(model)
    assert split_token_gemms(model) == 0
    assert states(model) == before


def test_a_dense_on_the_pooled_vector_is_left_alone() -> None:
    """It runs once a text."""
    model = parsed(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[batch, sequence, {WIDTH}] x) => (float[batch, {OUT}] out) {{
            pooled = ReduceMean<keepdims = 0>(x, axes)
            out = Gemm(pooled, weight, bias)
        }}
        """,
        axes=np.array([1]),
    )
    before = states(model)
    assert split_token_gemms(model) == 0
    assert states(model) == before


def test_a_dense_on_a_bag_of_words_is_left_alone() -> None:
    """Its vector is a Reshape of counts, and nothing makes tokens of what comes out: it runs once a text, too."""
    model = parsed(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[tokens] counts) => (float[batch, {OUT}] out) {{
            bags = Reshape(counts, flat)
            product = Gemm(bags, weight, bias)
            out = Tanh(product)
        }}
        """,
        flat=np.array([-1, WIDTH]),
    )
    before = states(model)
    assert split_token_gemms(model) == 0
    assert states(model) == before


def test_a_layer_is_called_what_the_model_calls_it() -> None:
    model = graph("Gemm<transB = 1>(rows, turned, bias)")
    model.graph.initializers["turned"].name = "stack.blocks.0.network.encoder.layer.0.Wo.weight"
    split_token_gemms(model)
    assert [layer.name for layer in find_layers(model.graph)] == ["encoder.layer.0.Wo"]


def test_a_weight_that_two_of_them_share_is_turned_once() -> None:
    model = parsed(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[batch, sequence, {WIDTH}] x) => (float[rows, {OUT}] out, float[rows, {OUT}] again) {{
            rows = Reshape(x, flat)
            out = Gemm<transB = 1>(rows, turned, bias)
            again = Gemm<transB = 1>(rows, turned)
        }}
        """,
        flat=np.array([-1, WIDTH]),
        turned=WEIGHT.T.copy(),
    )
    assert split_token_gemms(model) == 2
    (layer,) = find_layers(model.graph)
    assert len(layer.nodes) == 2
    assert layer.nodes[0].inputs[1] is layer.nodes[1].inputs[1]
