"""UseGpuKernels: ArgMax of integers and Mish, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from stcompile.compiler.passes import UseGpuKernels

_ARGMAX = """
<ir_version: 10, opset_import: ["" : 20]>
g (int64[B,S] x) => (int64[B,1] y) {
  y = ArgMax <axis = 1, keepdims = 1> (x)
}
"""
_MISH = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[B,8] x) => (float[B,8] y) {
  y = Mish (x)
}
"""


@pytest.mark.parametrize("kind", ["int32", "int64"])
@pytest.mark.parametrize("axis", [1, -1])
def test_the_first_of_the_largest_is_counted_to(
    kind: str, axis: int, from_text: Callable[..., ir.Model], assert_same: Callable[..., None]
) -> None:
    text = _ARGMAX.replace("int64[B,S]", f"{kind}[B,S]").replace("axis = 1", f"axis = {axis}")
    before, model = from_text(text), from_text(text)

    result = UseGpuKernels()(model)

    assert (result.rewrites, result.refusals) == (1, ())
    assert "ArgMax" not in [node.op_type for node in model.graph]
    rows = ([[0, 1, 1], [1, 1, 0]], [[0, 0, 0], [5, 7, 7]], [[3], [0]], [[-4, -2, -9]], [[49407, 3, 49407, 49406]])
    assert_same(before, model, [{"x": np.array(row, dtype=kind)} for row in rows])
    assert UseGpuKernels()(model).rewrites == 0


def test_an_axis_may_go(from_text: Callable[..., ir.Model], assert_same: Callable[..., None]) -> None:
    text = _ARGMAX.replace("int64[B,1]", "int64[B]").replace("keepdims = 1", "keepdims = 0")
    before, model = from_text(text), from_text(text)
    assert UseGpuKernels()(model).rewrites == 1
    assert_same(before, model, [{"x": np.array([[2, 9, 9], [1, 1, 1]])}])


@pytest.mark.parametrize(
    ("activation", "made"),
    [
        ("Mish", ["Softplus", "Tanh", "Mul"]),
        ("Celu", ["Div", "Elu", "Mul"]),
        ("Celu <alpha = 0.3>", ["Div", "Elu", "Mul"]),
    ],
)
def test_an_activation_is_what_it_is_defined_as(
    activation: str, made: list[str], from_text: Callable[..., ir.Model], assert_same: Callable[..., None]
) -> None:
    text = _MISH.replace("Mish", activation)
    before, model = from_text(text), from_text(text)

    assert UseGpuKernels()(model).rewrites == 1

    assert [node.op_type for node in model.graph] == made
    x = np.linspace(-60, 60, 64, dtype=np.float32).reshape(8, 8)
    assert_same(before, model, [{"x": x}])


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (("int64[B,S]", "float[B,S]"), "is of floats"),
        (("axis = 1", "select_last_index = 1, axis = 1"), "wants the last of the largest"),
        (("y = ArgMax <axis = 1, keepdims = 1> (x)", "y = Neg (x)"), "every operator has a kernel there"),
    ],
)
def test_what_has_a_kernel_stays(edit: tuple[str, str], sentence: str, from_text: Callable[..., ir.Model]) -> None:
    result = UseGpuKernels()(from_text(_ARGMAX.replace(*edit)))
    assert result.rewrites == 0
    assert sentence in " ".join(result.refusals)
