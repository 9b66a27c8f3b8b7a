"""Graphs written weight by weight: the same bytes in one file, the same numbers from two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from stcompile.compiler.trace.protobuf import LARGE, write_model
from stcompile.compiler.trace.running import opened

# In one byte a number as large as what leaves a message
SIZE = int(LARGE**0.5)


def square(dtype: npt.DTypeLike = np.float32) -> npt.NDArray[np.generic]:
    return np.random.default_rng(0).standard_normal((SIZE, SIZE)).astype(dtype)


def product(weight: ir.TensorProtocol) -> ir.Model:
    """`y = x @ float32(weight) + bias`, the bias small enough to stay in a message."""
    x, y = (ir.val(name, ir.DataType.FLOAT, ["batch", SIZE]) for name in ("x", "y"))
    bias = ir.val("bias", const_value=ir.tensor(np.arange(SIZE, dtype=np.float32), name="bias"))
    matrix = ir.val("matrix", const_value=weight)
    cast = ir.node("Cast", [matrix], {"to": ir.DataType.FLOAT}, name="cast")
    multiplied = ir.node("MatMul", [x, cast.outputs[0]], name="multiplied")
    added = ir.node("Add", [multiplied.outputs[0], bias], outputs=[y], name="added")
    graph = ir.Graph(
        [x], [y], nodes=[cast, multiplied, added], initializers=[matrix, bias], opset_imports={"": 20}, name="g"
    )
    return ir.Model(graph, ir_version=10, producer_name="somebody", metadata_props={"a": "b"})


WEIGHTS = {
    "float32": ir.tensor(square(), name="matrix"),
    "a turned view": ir.tensor(square().T, name="matrix"),
    "int8": ir.tensor((square() * 20).astype(np.int8), name="matrix"),
    "float16": ir.tensor(square(np.float16), name="matrix"),
    "bfloat16": ir.tensor(square().astype(ml_dtypes.bfloat16), name="matrix"),
}


@pytest.mark.parametrize("kind", [*WEIGHTS])
def test_weights_written_one_by_one_are_the_bytes_of_one_message(kind: str, tmp_path: Path) -> None:
    model = product(WEIGHTS[kind])
    write_model(model, tmp_path / "ours.onnx")
    ir.save(model, tmp_path / "whole.onnx")
    assert (tmp_path / "ours.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()


@pytest.mark.parametrize("kind", [*WEIGHTS])
def test_a_graph_runs_on_its_weights(kind: str) -> None:
    model = product(WEIGHTS[kind])
    x: Any = np.random.default_rng(1).standard_normal((3, SIZE)).astype(np.float32)
    with opened(model) as graph:
        (found,) = graph.run({"x": x}, ("y",))
    expected = x @ WEIGHTS[kind].numpy().astype(np.float32) + np.arange(SIZE)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
