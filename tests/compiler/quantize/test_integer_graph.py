"""Plans written for ONNX Runtime compute what the schemes say, in numpy, with the engine's own optimizer off."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from stcompile.compiler.quantize.candidates import BLOCK, FLOAT32, PER_BATCH, PER_TOKEN, STATIC, WEIGHTS
from stcompile.compiler.quantize.integer_graph import write_integer_layers
from stcompile.compiler.quantize.schemes import PerToken, StaticRange
from stcompile.compiler.quantize.weights import quantize_blocks, quantize_columns
from tests.compiler.quantize.graphs import (
    BIAS,
    OTHER_WEIGHT,
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

# Whole sums, scaled and moved by three float32 operations, as a share of the largest. Measured: 4.3e-7.
ROUNDING = 1e-6

# The engine quantizes activations itself where weights alone are quantized here, in 8 bits a block of 32.
# Measured: 0.029 of the largest.
ENGINES_OWN_LEVELS = 0.05

# Rows of very different sizes, one of zeros, one that no square of which float32 holds.
SIZES = np.array([1, 30, 0, 1e-3, 1e25, 1], np.float32)

# What a candidate of each scheme is beside it
KNOWN: dict[str, dict[str, Any]] = {
    STATIC: {"levels": StaticRange.covering(-4, 4)},
    PER_TOKEN: {"levels": PerToken(128)},
    PER_BATCH: {},
    WEIGHTS: {"block": BLOCK},
}

RANKS = {2: (6, WIDTH), 3: (3, 6, WIDTH), 4: (2, 3, 6, WIDTH)}


def rows_of(rank: int, *, even: bool = False) -> Array:
    x = np.random.default_rng(rank).standard_normal(RANKS[rank]).astype(np.float32)
    return x if even else x * SIZES[:, np.newaxis]


def assert_near(found: Array, expected: npt.NDArray[Any], share: float = ROUNDING) -> None:
    """Row by row, as a share of the row's largest."""
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.isfinite(expected).all()
    allowed = share * np.abs(expected).max(axis=-1, keepdims=True)
    assert (np.abs(found - expected) <= allowed).all()


def multiplied(rows: Array, weight: Array, *, biased: bool = True) -> npt.NDArray[np.float64]:
    return rows.astype(np.float64) @ weight.astype(np.float64) + (BIAS if biased else 0)


def restored(scheme: PerToken | StaticRange, rows: Array) -> Array:
    return scheme.restored(rows.reshape(-1, rows.shape[-1])).reshape(rows.shape)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("zero_point", [128, 16])
def test_each_token_has_a_scale_of_its_own(zero_point: int, rank: int, biased: bool) -> None:
    model, x = layer_graph(rank=rank, biased=biased), rows_of(rank)
    scheme = PerToken(zero_point)
    write_integer_layers(model, [planned(only(model), PER_TOKEN, levels=scheme)])
    assert "MatMul" not in operators(model)
    (found,) = run(model, x=x)
    assert_near(found, multiplied(restored(scheme, x), quantize_columns(WEIGHT).restored(), biased=biased))


def test_above_zero_a_token_needs_no_smallest_value() -> None:
    """Zero point 0: rectified rows in 255 levels."""
    model, x = layer_graph("Relu"), rows_of(3)
    write_integer_layers(model, [planned(only(model), PER_TOKEN, levels=PerToken(0))])
    assert "ReduceMin" not in operators(model)
    (found,) = run(model, x=x)
    assert_near(found, multiplied(restored(PerToken(0), produced("Relu", x)), quantize_columns(WEIGHT).restored()))


@pytest.mark.parametrize("zero_point", [128, 16, 8])
@pytest.mark.parametrize("producer", ["Gelu", "Relu"])
def test_what_never_goes_far_below_zero_needs_no_search_for_it(producer: str, zero_point: int) -> None:
    """GELU's smallest value is -0.17: a scale that holds it holds every row."""
    model, x = layer_graph(producer), rows_of(3)
    scheme = PerToken(zero_point, {"Gelu": 0.17, "Relu": 0.0}[producer])
    write_integer_layers(model, [planned(only(model), PER_TOKEN, levels=scheme)])
    assert "ReduceMin" not in operators(model)
    (found,) = run(model, x=x)
    rows = produced(producer, x).reshape(-1, WIDTH)
    least = {"Gelu": 0.17, "Relu": 0.0}[producer] / zero_point
    scales = np.maximum(rows.max(axis=1, keepdims=True) / np.float32(255 - zero_point), np.float32(max(least, 1e-12)))
    levels = np.clip(np.rint(rows / scales), -zero_point, 255 - zero_point)
    rows = (levels * scales).astype(np.float32)
    expected = multiplied(rows, quantize_columns(WEIGHT).restored()).reshape(found.shape)
    assert_near(found, expected)


@pytest.mark.parametrize("never_below", [0.17, None])
@pytest.mark.parametrize("producer", ["Gelu", "Relu"])
def test_a_plans_error_is_that_of_the_graph(producer: str, never_below: float | None) -> None:
    """A scheme is chosen by `PerToken.restored`: the graph may not be coarser, for small rows either."""
    x = rows_of(3, even=True) * np.float32(0.05)
    scheme = PerToken(64, never_below)
    model = layer_graph(producer)
    write_integer_layers(model, [planned(only(model), PER_TOKEN, levels=scheme)])
    (found,) = run(model, x=x)
    data = produced(producer, x)
    exact = multiplied(data, WEIGHT)
    promised = np.abs(multiplied(restored(scheme, data), quantize_columns(WEIGHT).restored()) - exact).mean()
    assert np.abs(found - exact).mean() <= 1.05 * promised


@pytest.mark.parametrize("zero_point", [128, 16, 0])
def test_scaling_one_token_leaves_the_others_as_they_were(zero_point: int) -> None:
    model = layer_graph("Relu")
    write_integer_layers(model, [planned(only(model), PER_TOKEN, levels=PerToken(zero_point))])
    x = rows_of(3)
    (before,) = run(model, x=x)
    x[1, 3] *= np.float32(1e4)
    (after,) = run(model, x=x)
    others = np.ones(x.shape[:2], dtype=bool)
    others[1, 3] = False
    assert np.array_equal(after[others], before[others])
    assert not np.array_equal(after[1, 3], before[1, 3])
    (alone,) = run(model, x=x[2:, 4:5])
    assert np.array_equal(alone[0, 0], before[2, 4])


def test_one_scale_for_the_batch_does_tie_its_tokens_together() -> None:
    """The test above can fail."""
    model = layer_graph("Relu")
    write_integer_layers(model, [planned(only(model), PER_BATCH)])
    x = rows_of(3, even=True)
    (before,) = run(model, x=x)
    x[1, 3] *= np.float32(1e4)
    (after,) = run(model, x=x)
    assert not np.array_equal(after[0], before[0])


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("reach", [(-2.0, 2.0), (-0.17, 3.0), (0.0, 1.0)])
def test_a_static_range_is_the_same_for_all(reach: tuple[float, float], rank: int, biased: bool) -> None:
    """Values outside are cut."""
    model, x = layer_graph(rank=rank, biased=biased), rows_of(rank, even=True)
    scheme = StaticRange.covering(*reach)
    write_integer_layers(model, [planned(only(model), STATIC, levels=scheme)])
    assert operators(model) == ["Identity", "QuantizeLinear", "MatMulIntegerToFloat"]
    (found,) = run(model, x=x)
    assert_near(found, multiplied(restored(scheme, x), quantize_columns(WEIGHT).restored(), biased=biased))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("smoothing", [None, SMOOTHING], ids=["as it is", "smoothed"])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("rank", [2, 3])
def test_weights_alone_are_in_blocks(rank: int, biased: bool, smoothing: Array | None, bits: int) -> None:
    model, x = layer_graph("LayerNormalization", rank=rank, biased=biased), rows_of(rank, even=True)
    write_integer_layers(model, [planned(only(model), WEIGHTS, bits=bits, block=BLOCK, smoothing=smoothing)])
    assert operators(model) == ["LayerNormalization", "MatMulNBits"]
    data = produced("LayerNormalization", x)
    divisor = np.ones(WIDTH, np.float32) if smoothing is None else smoothing
    weight = quantize_blocks(WEIGHT * divisor[:, np.newaxis], bits, BLOCK).restored()
    expected = multiplied(data / divisor, weight, biased=biased)
    assert_near(run(model, x=x)[0], expected, ENGINES_OWN_LEVELS)
    # Told to leave the activations alone it shows nothing but the weights
    (node,) = (node for node in model.graph if node.op_type == "MatMulNBits")
    node.attributes["accuracy_level"] = ir.AttrInt64("accuracy_level", 1)
    assert_near(run(model, x=x)[0], expected)


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_in_blocks_may_be_of_any_length(bits: int) -> None:
    """The last block is filled up, an odd number of zero points too."""
    rng = np.random.default_rng(bits)
    for size in (BLOCK * 3, BLOCK * 2 + 1, BLOCK - 1):
        long = rng.standard_normal((size, 5)).astype(np.float32)
        model = parsed(
            f"""<ir_version: 10, opset_import: ["" : 20]>
            g (float[batch, {size}] x) => (float[batch, 5] out) {{ out = MatMul(x, long) }}""",
            long=long,
        )
        write_integer_layers(model, [planned(only(model), WEIGHTS, bits=bits, block=BLOCK)])
        model.graph[0].attributes["accuracy_level"] = ir.AttrInt64("accuracy_level", 1)
        x = rng.standard_normal((4, size)).astype(np.float32)
        expected = x.astype(np.float64) @ quantize_blocks(long, bits, BLOCK).restored()
        assert_near(run(model, x=x)[0], expected)


@pytest.mark.parametrize("scheme", [STATIC, PER_TOKEN])
@pytest.mark.parametrize("producer", PRODUCERS)
def test_smoothing_divides_what_the_layer_reads_and_multiplies_its_weights(producer: str, scheme: str) -> None:
    model, x = layer_graph(producer), rows_of(3, even=True)
    plan = planned(only(model), scheme, smoothing=SMOOTHING, **KNOWN[scheme])
    write_integer_layers(model, [plan])
    # A norm takes the division into its own weight, anything else is divided by one more multiplication.
    folds = producer.startswith(("LayerNormalization", "Mul"))
    assert ("data_smoothed_by" in model.graph.initializers) is not folds
    smooth = (produced(producer, x).astype(np.float64) / SMOOTHING).astype(np.float32)
    rows = restored(KNOWN[scheme]["levels"], smooth)
    weight = quantize_columns((WEIGHT * SMOOTHING[:, np.newaxis]).astype(np.float32)).restored()
    (found,) = run(model, x=x)
    expected = multiplied(rows, weight)
    # Two float32 norms differ in the last bit: now and then a value tips over to the next of its levels.
    tipped = (np.abs(found - expected) > 2e-6 * np.abs(expected).max()).any(axis=-1)
    assert tipped.mean() <= 0.06
    one_level = 8 / 255 * np.abs(weight).max()
    assert np.abs(found - expected).max() <= 1.01 * one_level


@pytest.mark.parametrize("extra", ["node", "output"])
@pytest.mark.parametrize("producer", ["LayerNormalization", "Mul"])
def test_a_norm_that_others_read_too_keeps_its_weight(producer: str, extra: str) -> None:
    """What networks that normalize after each layer look like: the residual reads it as well."""
    if extra == "output":
        model = layer_graph(producer, outputs=f", float[batch, sequence, {WIDTH}] data")
    else:
        model = layer_graph(producer, nodes="again = Neg(data)", outputs=f", float[batch, sequence, {WIDTH}] again")
    x = rows_of(3, even=True)
    before = run(layer_graph(producer), x=x)[0]
    levels = StaticRange.covering(-9, 9)
    write_integer_layers(model, [planned(only(model), STATIC, smoothing=SMOOTHING, levels=levels)])
    assert "data_smoothed_by" in model.graph.initializers
    found, other = run(model, x=x)
    np.testing.assert_allclose(other * (1 if extra == "output" else -1), produced(producer, x), rtol=0, atol=2e-6)
    assert np.abs(found - before).max() <= 0.1 * np.abs(before).max()


def three() -> ir.Model:
    """Q, K and V: three weights behind one norm, one of them without a bias."""
    return parsed(f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[batch, sequence, {WIDTH}] x) => (
            float[batch, sequence, {OUT}] out,
            float[batch, sequence, {OUT + 2}] key,
            float[batch, sequence, {OUT}] again
        ) {{
            {PRODUCERS["LayerNormalization"]}
            product = MatMul(data, weight)
            out = Add(bias, product)
            key = MatMul(data, other_weight)
            again = MatMul(data, weight)
        }}
    """)


@pytest.mark.parametrize("scheme", [STATIC, PER_TOKEN, PER_BATCH, WEIGHTS])
def test_what_reads_one_tensor_shares_its_levels(scheme: str) -> None:
    model, x = three(), rows_of(3, even=True)
    before = run(three(), x=x)
    write_integer_layers(model, [planned(only(model), scheme, **KNOWN[scheme])])
    quantizing = {"QuantizeLinear", "DynamicQuantizeLinear"}
    assert sum(name in quantizing for name in operators(model)) == (scheme != WEIGHTS)
    # One copy of a weight that is read twice
    weights = [name for name in model.graph.initializers if name.endswith(("_int8", "_8bit"))]
    assert len(weights) == 2
    after = run(model, x=x)
    for name, one, other in zip(("out", "key", "again"), before, after, strict=True):
        assert np.abs(one - other).max() <= 0.03 * np.abs(one).max(), name
    data, rows = produced("LayerNormalization", x), None
    if scheme == STATIC:
        rows = restored(StaticRange.covering(-4, 4), data)
    if rows is not None:
        assert_near(after[1], multiplied(rows, quantize_columns(OTHER_WEIGHT).restored(), biased=False))


def test_float32_is_left_alone() -> None:
    model = three()
    before = states(model)
    write_integer_layers(model, [planned(only(model), FLOAT32)])
    assert states(model) == before
    assert "com.microsoft" not in model.graph.opset_imports


@pytest.mark.parametrize("scheme", [STATIC, PER_TOKEN, PER_BATCH, WEIGHTS])
def test_inputs_and_outputs_keep_their_names_types_and_shapes(scheme: str) -> None:
    model = three()
    before = states(model)
    write_integer_layers(model, [planned(only(model), scheme, **KNOWN[scheme])])
    assert states(model)[0] == before[0]
    assert [(value.name, value.dtype, value.shape) for value in model.graph.outputs] == [
        (value.name, value.dtype, value.shape) for value in three().graph.outputs
    ]
