"""Precision recipes on small graphs, with the engine's own optimizer off."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort
import pytest

from stcompile.artifact.target import OF_GRAPHS, TARGETS
from stcompile.compiler.quantize import FOR_GPUS, RECIPES, QuantizationJob
from stcompile.compiler.quantize.dynamic import quantize_dynamic
from stcompile.compiler.quantize.half import convert_to_half
from stcompile.compiler.quantize.weights import quantize_columns, quantize_rows

JOB = QuantizationJob("")

RNG = np.random.default_rng(3)
TABLE = RNG.standard_normal((300, 16)).astype(np.float32)
WEIGHT = RNG.standard_normal((16, 8)).astype(np.float32)
BIAS = RNG.standard_normal(8).astype(np.float32)
IDS = RNG.integers(0, 300, (3, 5))


def graph(*, biased: bool = True) -> ir.Model:
    """ids (batch, sequence) -> Gather -> MatMul (-> Add) -> ReduceSum over the sequence -> (batch, 8)."""
    ids = ir.val("ids", ir.DataType.INT64, ["batch", "sequence"])
    arrays: dict[str, npt.NDArray[Any]] = {"table": TABLE, "weight": WEIGHT, "bias": BIAS, "axes": np.array([1])}
    constants = {name: ir.val(name, const_value=ir.tensor(array, name=name)) for name, array in arrays.items()}
    for value in constants.values():
        assert value.const_value is not None
        value.dtype, value.shape = value.const_value.dtype, ir.Shape(value.const_value.numpy().shape)
    rows = ir.node("Gather", [constants["table"], ids], {"axis": 0})
    product = ir.node("MatMul", [rows.outputs[0], constants["weight"]])
    added = ir.node("Add", [product.outputs[0], constants["bias"]])
    last = added if biased else product
    total = ir.node("ReduceSum", [last.outputs[0], constants["axes"]], {"keepdims": 0})
    nodes = [rows, product, *([added] if biased else []), total]
    for index, node in enumerate(nodes):
        node.name, node.outputs[0].name = f"n{index}", f"v{index}"
        node.outputs[0].dtype = ir.DataType.FLOAT
    total.outputs[0].name = "out"
    total.outputs[0].shape = ir.Shape(["batch", 8])
    used = [value for name, value in constants.items() if biased or name != "bias"]
    body = ir.Graph([ids], [total.outputs[0]], nodes=nodes, initializers=used, opset_imports={"": 20}, name="g")
    return ir.Model(body, ir_version=10)


def run(model: ir.Model, ids: npt.NDArray[np.int64] = IDS) -> npt.NDArray[np.float32]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: npt.NDArray[np.float32] = session.run(None, {"ids": ids})[0]
    return result


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_every_recipe_is_some_targets() -> None:
    named = {target.recipe for target in (*TARGETS.values(), *OF_GRAPHS.values())}
    assert named | {FOR_GPUS[name] for name in named & set(FOR_GPUS)} == set(RECIPES)


def test_float32_is_the_graph_as_it_is() -> None:
    model = graph()
    before = ir.to_proto(model).SerializeToString()
    assert RECIPES["float32"](model, JOB) is None
    assert ir.to_proto(model).SerializeToString() == before


@pytest.mark.parametrize("biased", [True, False])
def test_dynamic_int8_is_the_arithmetic_it_says(biased: bool) -> None:
    """Against the same arithmetic in numpy: uint8 activations with one scale, int8 columns, int8 rows."""
    model = graph(biased=biased)
    summary = quantize_dynamic(model, JOB)
    assert (summary.matmuls, summary.embeddings) == (1, 1)
    assert [(layer.scheme, layer.bits, layer.matmuls) for layer in summary.layers] == [("per-batch", 8, 1)]
    assert (summary.calibration, summary.budget) == (None, None)
    assert "MatMul" not in ops(model)
    assert ("Add" in ops(model)) is False
    table, row_scale = quantize_rows(TABLE)
    data = (table * row_scale[:, None])[IDS].astype(np.float32)
    low, high = min(data.min(), 0), max(data.max(), 0)
    scale = np.float32((high - low) / np.float32(255))
    zero = np.clip(np.rint(-low / scale), 0, 255)
    quantized = np.clip(np.rint(data / scale) + zero, 0, 255) - zero
    weight, column_scale = quantize_columns(WEIGHT)
    product = quantized @ weight.astype(np.float64) * scale * column_scale + (BIAS if biased else 0)
    assert np.abs(run(model) - product.sum(axis=1)).max() <= 1e-4


def test_dynamic_int8_is_near_float32() -> None:
    expected = run(graph())
    model = graph()
    quantize_dynamic(model, JOB)
    got = run(model)
    cosine = (expected * got).sum(1) / np.linalg.norm(expected, axis=1) / np.linalg.norm(got, axis=1)
    assert cosine.min() > 0.999


def test_a_graph_with_nothing_to_quantize_stays_as_it_is() -> None:
    model = graph()
    for node in list(model.graph):
        node.op_type = {"MatMul": "Einsum", "Gather": "GatherElements"}.get(node.op_type, node.op_type)
    before = [node.op_type for node in model.graph]
    summary = quantize_dynamic(model, JOB)
    assert (summary.matmuls, summary.embeddings, [node.op_type for node in model.graph]) == (0, 0, before)


def test_float16_keeps_sums_in_float32_and_halves_the_weights() -> None:
    expected = run(graph())
    model = graph()
    before = size(model)
    summary = convert_to_half(model, JOB)
    assert size(model) < 0.55 * before
    assert summary.kept == ("1 ReduceSum: computed in float32",)
    got = run(model)
    assert got.dtype == np.float32
    assert np.abs(got - expected).max() / np.abs(expected).max() < 2e-3


def test_a_masks_most_negative_float_stays_finite_in_float16() -> None:
    model = graph()
    bias = model.graph.initializers["bias"]
    bias.const_value = ir.tensor(np.full(8, np.finfo(np.float32).min), name="bias")
    convert_to_half(model, JOB)
    assert np.isfinite(run(model)).all()


def test_a_true_infinity_stays_one_in_float16() -> None:
    model = graph()
    model.graph.initializers["bias"].const_value = ir.tensor(np.full(8, -np.inf, np.float32), name="bias")
    convert_to_half(model, JOB)
    assert np.isneginf(run(model)).all()


def size(model: ir.Model) -> int:
    stream = io.BytesIO()
    stream.write(ir.to_proto(model).SerializeToString())
    return stream.tell()


@pytest.mark.parametrize("recipe", [quantize_dynamic, convert_to_half])
def test_inputs_and_outputs_keep_their_names_and_types(recipe: Any) -> None:
    model = graph()
    recipe(model, JOB)
    assert [(value.name, value.dtype) for value in model.graph.inputs] == [("ids", ir.DataType.INT64)]
    assert [(value.name, value.dtype) for value in model.graph.outputs] == [("out", ir.DataType.FLOAT)]
