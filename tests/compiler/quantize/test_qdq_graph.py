"""Plans written for OpenVINO compute what the schemes say, in OpenVINO and, to the letter, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from stcompile.compiler.quantize.candidates import FLOAT32, PER_TOKEN, STATIC, WEIGHTS
from stcompile.compiler.quantize.layers import find_layers
from stcompile.compiler.quantize.qdq_graph import write_qdq_layers
from stcompile.compiler.quantize.schemes import PerToken, StaticRange
from stcompile.compiler.quantize.weights import quantize_columns
from stcompile.runtime.engines.openvino import import_openvino
from tests.compiler.quantize.graphs import (
    BIAS,
    OUT,
    PRODUCERS,
    SMOOTHING,
    WEIGHT,
    WIDTH,
    layer_graph,
    only,
    operators,
    parsed,
    planned,
    produced,
    run,
    states,
)

Array = npt.NDArray[np.float32]

# Float32 rounding of sums of whole numbers, as a share of a row's largest. Measured: 2e-7 in both engines.
ROUNDING = 1e-6

# Of very different sizes, one of zeros
SIZES = np.array([1, 30, 0, 1e-3, 1e9, 1], np.float32)

# What a candidate of each scheme is beside it
KNOWN: dict[str, dict[str, Any]] = {
    STATIC: {"levels": StaticRange.covering(-9, 9)},
    PER_TOKEN: {"levels": PerToken(128)},
    WEIGHTS: {},
}

RANKS = {2: (6, WIDTH), 3: (3, 6, WIDTH)}


def run_openvino(model: ir.Model, x: Array) -> Array:
    """As the engine of the runtime runs it: in float32, without quantizing anything by itself."""
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
        "INFERENCE_NUM_THREADS": "1",
        "NUM_STREAMS": "1",
    }
    core = import_openvino("This test").Core()
    compiled = core.compile_model(core.read_model(ir.to_proto(model).SerializeToString()), "CPU", options)
    return np.array(compiled({"x": x})["out"])


def run_onnxruntime(model: ir.Model, x: Array) -> Array:
    return run(model, x=x)[0]


Engine = Callable[[ir.Model, Array], Array]
ENGINES = pytest.mark.parametrize("engine", [run_onnxruntime, run_openvino], ids=["onnxruntime", "openvino"])


def rows_of(rank: int, *, even: bool = False) -> Array:
    x = np.random.default_rng(rank).standard_normal(RANKS[rank]).astype(np.float32)
    return x if even else x * SIZES[:, np.newaxis]


def multiplied(rows: Array, weight: Array, *, biased: bool = True) -> npt.NDArray[np.float64]:
    return rows.astype(np.float64) @ weight.astype(np.float64) + (BIAS if biased else 0)


def restored(scheme: PerToken | StaticRange, rows: Array) -> Array:
    return scheme.restored(rows.reshape(-1, rows.shape[-1])).reshape(rows.shape)


def assert_near(found: Array, expected: npt.NDArray[Any]) -> None:
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert (np.abs(found - expected) <= ROUNDING * np.abs(expected).max(axis=-1, keepdims=True)).all()


@ENGINES
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("zero_point", [128, 16])
def test_each_token_has_a_scale_of_its_own(zero_point: int, rank: int, biased: bool, engine: Engine) -> None:
    model, x = layer_graph(rank=rank, biased=biased), rows_of(rank)
    scheme = PerToken(zero_point)
    write_qdq_layers(model, [planned(only(model), PER_TOKEN, levels=scheme)])
    assert {"QuantizeLinear", "DequantizeLinear"} <= set(operators(model))
    expected = multiplied(restored(scheme, x), quantize_columns(WEIGHT).restored(), biased=biased)
    assert_near(engine(model, x), expected)


@ENGINES
@pytest.mark.parametrize("producer", ["Gelu", "Relu"])
def test_what_never_goes_far_below_zero_needs_no_search_for_it(producer: str, engine: Engine) -> None:
    model, x = layer_graph(producer), rows_of(3, even=True)
    zero_point = 16
    scheme = PerToken(zero_point, {"Gelu": 0.17, "Relu": 0.0}[producer])
    write_qdq_layers(model, [planned(only(model), PER_TOKEN, levels=scheme)])
    assert "ReduceMin" not in operators(model)
    rows = produced(producer, x).reshape(-1, WIDTH)
    least = {"Gelu": 0.17, "Relu": 0.0}[producer] / zero_point
    scales = np.maximum(rows.max(axis=1, keepdims=True) / np.float32(255 - zero_point), np.float32(max(least, 1e-12)))
    levels = np.clip(np.rint(rows / scales), -zero_point, 255 - zero_point)
    rows = (levels * scales).astype(np.float32)
    expected = multiplied(rows, quantize_columns(WEIGHT).restored()).reshape(*x.shape[:2], OUT)
    assert_near(engine(model, x), expected)


@ENGINES
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("reach", [(-2.0, 2.0), (-0.17, 3.0), (0.0, 1.0)])
def test_a_static_range_is_the_same_for_all(
    reach: tuple[float, float], rank: int, biased: bool, engine: Engine
) -> None:
    model, x = layer_graph(rank=rank, biased=biased), rows_of(rank, even=True)
    scheme = StaticRange.covering(*reach)
    write_qdq_layers(model, [planned(only(model), STATIC, levels=scheme)])
    assert_near(engine(model, x), multiplied(restored(scheme, x), quantize_columns(WEIGHT).restored(), biased=biased))


@ENGINES
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("rank", RANKS)
def test_weights_alone_leave_the_activations_as_they_are(rank: int, biased: bool, engine: Engine) -> None:
    model, x = layer_graph(rank=rank, biased=biased), rows_of(rank)
    write_qdq_layers(model, [planned(only(model), WEIGHTS)])
    assert "QuantizeLinear" not in operators(model)
    assert_near(engine(model, x), multiplied(x, quantize_columns(WEIGHT).restored(), biased=biased))


def test_weights_are_stored_in_eight_bits() -> None:
    model = layer_graph()
    write_qdq_layers(model, [planned(only(model), WEIGHTS)])
    stored = {name: value.const_value for name, value in model.graph.initializers.items()}
    assert "weight" not in stored
    assert stored["weight_int8"] is not None
    assert stored["weight_int8"].dtype == ir.DataType.INT8


@pytest.mark.parametrize("zero_point", [128, 16])
def test_scaling_one_token_leaves_the_others_as_they_were(zero_point: int) -> None:
    """In OpenVINO, bit for bit."""
    model = layer_graph()
    write_qdq_layers(model, [planned(only(model), PER_TOKEN, levels=PerToken(zero_point))])
    x = rows_of(3, even=True)
    before = run_openvino(model, x)
    x[1, 3] *= np.float32(1e4)
    after = run_openvino(model, x)
    others = np.ones(x.shape[:2], dtype=bool)
    others[1, 3] = False
    assert np.array_equal(after[others], before[others])
    assert not np.array_equal(after[1, 3], before[1, 3])


@pytest.mark.parametrize("scheme", [STATIC, PER_TOKEN])
@pytest.mark.parametrize("producer", PRODUCERS)
def test_smoothing_divides_what_the_layer_reads_and_multiplies_its_weights(producer: str, scheme: str) -> None:
    model, x = layer_graph(producer), rows_of(3, even=True)
    levels = StaticRange.covering(-4, 4) if scheme == STATIC else PerToken(128)
    write_qdq_layers(model, [planned(only(model), scheme, smoothing=SMOOTHING, levels=levels)])
    folds = producer.startswith(("LayerNormalization", "Mul"))
    assert ("data_smoothed_by" in model.graph.initializers) is not folds
    smooth = (produced(producer, x).astype(np.float64) / SMOOTHING).astype(np.float32)
    weight = quantize_columns((WEIGHT * SMOOTHING[:, np.newaxis]).astype(np.float32)).restored()
    expected = multiplied(restored(levels, smooth), weight)
    found = run_onnxruntime(model, x)
    # Two float32 norms differ in the last bit: now and then a value tips over to the next of its levels.
    tipped = (np.abs(found - expected) > ROUNDING * np.abs(expected).max()).any(axis=-1)
    assert tipped.mean() <= 0.06
    assert np.abs(found - expected).max() <= 1.01 * 8 / 255 * np.abs(weight).max()


def shared() -> ir.Model:
    """One weight behind two norms, as ALBERT's layers have it, and a second weight beside the first."""
    return parsed(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[batch, {WIDTH}] x) => (float[batch, {OUT}] out, float[batch, {OUT}] again) {{
            data = LayerNormalization<axis = -1>(x, norm_weight)
            product = MatMul(data, weight)
            out = Add(product, bias)
            twice = Mul(x, x)
            again = MatMul(twice, weight)
        }}
        """
    )


@pytest.mark.parametrize("scheme", [STATIC, PER_TOKEN, WEIGHTS])
def test_a_weight_that_two_layers_share_is_stored_once(scheme: str) -> None:
    model, x = shared(), rows_of(2, even=True)
    write_qdq_layers(model, [planned(layer, scheme, **KNOWN[scheme]) for layer in find_layers(model.graph)])
    weights = [name for name, value in model.graph.initializers.items() if value.dtype == ir.DataType.INT8]
    assert weights == ["weight_int8"]
    for before, after in zip(run(shared(), x=x), run(model, x=x), strict=True):
        assert np.abs(before - after).max() <= 0.05 * np.abs(before).max()


def test_float32_is_left_alone() -> None:
    model = layer_graph("Gelu")
    before = states(model)
    write_qdq_layers(model, [planned(only(model), FLOAT32)])
    assert states(model) == before


@pytest.mark.parametrize("scheme", [STATIC, PER_TOKEN, WEIGHTS])
def test_inputs_and_outputs_keep_their_names_types_and_shapes(scheme: str) -> None:
    model = layer_graph("LayerNormalization", biased=False)
    before = [(value.name, value.dtype, value.shape) for value in (*model.graph.inputs, *model.graph.outputs)]
    write_qdq_layers(model, [planned(only(model), scheme, **KNOWN[scheme])])
    after = [(value.name, value.dtype, value.shape) for value in (*model.graph.inputs, *model.graph.outputs)]
    assert after == before
