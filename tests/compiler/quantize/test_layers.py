"""What there is to quantize: matrix multiplications by the tensor they read, and what they are called."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from stcompile.compiler.quantize.layers import find_layers
from tests.compiler.quantize.graphs import OUT, WEIGHT, WIDTH, parsed


def graph(nodes: str, **arrays: npt.NDArray[Any]) -> ir.Model:
    return parsed(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[batch, {WIDTH}] x, float[batch, {WIDTH}] y) => (out) {{ {nodes} }}
        """,
        **arrays,
    )


def test_what_reads_one_tensor_is_one_layer() -> None:
    model = graph(
        """
        q = MatMul(x, query)
        k = MatMul(x, key)
        out = MatMul(y, value)
        """,
        query=WEIGHT,
        key=WEIGHT + 1,
        value=WEIGHT + 2,
    )
    first, second = find_layers(model.graph)
    assert (first.data.name, [node.outputs[0].name for node in first.nodes]) == ("x", ["q", "k"])
    assert (second.data.name, [node.outputs[0].name for node in second.nodes]) == ("y", ["out"])
    assert all(np.array_equal(found, WEIGHT + more) for found, more in zip(first.weights, (0, 1), strict=True))
    assert (first.multiplications, second.multiplications) == (2 * WIDTH * OUT, WIDTH * OUT)
    assert not first.shares_weights
    assert not second.shares_weights


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ("z = Gemm(x, weight, bias)\nout = Identity(z)", "a Dense on the pooled vector"),
        ("out = MatMul(x, y)", "nothing constant"),
        ("out = MatMul(left, x)", "the constant is what multiplies"),
        ("out = MatMul(x, doubles)", "another type"),
        ("out = MatMul(x, stacked)", "a matrix for each of a stack"),
        ("out = Add(x, y)", "no multiplication"),
    ],
)
def test_everything_else_stays_as_it_is(nodes: str, why: str) -> None:
    arrays: dict[str, npt.NDArray[Any]] = {
        "left": WEIGHT.T.copy(),
        "doubles": WEIGHT.astype(np.float64),
        "stacked": np.stack([WEIGHT, WEIGHT]),
    }
    assert find_layers(graph(nodes, **arrays).graph) == [], why


def test_a_weight_that_two_tensors_meet_is_shared() -> None:
    """ALBERT's layers have one weight between them: what is done for the one is done to the other."""
    model = graph(
        """
        a = MatMul(x, weight)
        b = MatMul(y, weight)
        c = MatMul(y, own)
        out = Add(a, bias)
        """,
        own=WEIGHT + 1,
    )
    first, second = find_layers(model.graph)
    assert first.shares_weights
    assert second.shares_weights
    assert len(second.nodes) == 2


def test_a_weight_that_one_tensor_meets_twice_is_not_shared() -> None:
    (layer,) = find_layers(graph("a = MatMul(x, weight)\nb = MatMul(x, weight)\nout = Add(a, b)").graph)
    assert not layer.shares_weights


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (["stack.blocks.0.network.encoder.layer.0.output.dense.weight"], "encoder.layer.0.output.dense"),
        (["blocks.2.linear.weight"], "linear"),
        (["stack.blocks.2.linear.linear"], "linear"),
        (
            [
                f"stack.blocks.0.network.encoder.layer.3.attention.self.{name}.weight"
                for name in ("query", "key", "value")
            ],
            "encoder.layer.3.attention.self.(query, key, value)",
        ),
        (["wi_0.weight", "wi_1.weight"], "wi_0, wi_1"),
        (["a.b.weight", "a.c.d.weight"], "a.(b, c.d)"),
        (["val_7"], "val_7"),
    ],
)
def test_a_layer_is_called_what_the_model_calls_its_weights(weights: list[str], expected: str) -> None:
    nodes = [f"p{index} = MatMul(x, w{index})" for index in range(len(weights))]
    model = graph("\n".join([*nodes, "out = Identity(p0)"]), **{f"w{index}": WEIGHT for index in range(len(weights))})
    for index, name in enumerate(weights):
        model.graph.initializers[f"w{index}"].name = name
    (layer,) = find_layers(model.graph)
    assert layer.name == expected
