"""Weights in 8 and 4 bits: near what they were, and integers that every CPU multiplies alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some
from hypothesis.extra.numpy import array_shapes, arrays

from stcompile.compiler.quantize.weights import quantize_blocks, quantize_columns, quantize_rows
from stcompile.kernels.cpu_features import adds_int8_products

Array = npt.NDArray[np.float32]

# What AVX2 and AVX-512 without VNNI add a pair of products up in.
INT16 = np.iinfo(np.int16)

# A level more or less by the rounding of a float32 division.
HALF_A_LEVEL = 0.5001

ALWAYS_THE_SAME = settings(derandomize=True, deadline=None, database=None, max_examples=200)

# Ordinary numbers, whole levels that all round up or down together, and the smallest there are.
NUMBERS = some.one_of(
    some.floats(-(2.0**100), 2.0**100, width=32),
    some.integers(-300, 300).map(lambda half: float(np.float32(half / 2))),
    some.sampled_from([0.0, 127.0, -127.0, 1e-6, -1e-30, 1e-40, -1.4e-45]),
)
MATRICES = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9), elements=NUMBERS)


def pairs_of(levels: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """Rows 2i and 2i + 1 side by side, `(pairs, 2, out)`."""
    even = np.zeros((len(levels) + len(levels) % 2, levels.shape[1]), dtype=np.int64)
    even[: len(levels)] = levels
    return even.reshape(-1, 2, levels.shape[1])


@ALWAYS_THE_SAME
@example(weight=np.full((2, 1), 1.33e-43, np.float32))
@given(weight=MATRICES)
def test_no_pair_of_products_leaves_16_bits(weight: Array) -> None:
    """Whatever the activations: the largest sum has 255 at every weight above zero, the smallest at every one below."""
    pairs = pairs_of(quantize_columns(weight)[0])
    assert (255 * np.maximum(pairs, 0).sum(axis=1)).max() <= INT16.max
    assert (255 * np.minimum(pairs, 0).sum(axis=1)).min() >= INT16.min


@ALWAYS_THE_SAME
@given(weight=MATRICES)
def test_columns_are_within_half_a_level(weight: Array) -> None:
    levels, scale = quantize_columns(weight)
    assert levels.dtype == np.int8
    assert scale.dtype == np.float32
    assert (levels.shape, scale.shape) == (weight.shape, weight.shape[1:])
    assert levels.min() >= -127
    # A column of numbers that float32 cannot divide any further becomes zeros.
    error = np.abs(levels * scale.astype(np.float64) - weight)
    assert (error <= np.maximum(HALF_A_LEVEL * scale, np.finfo(np.float32).tiny)[np.newaxis]).all()


def test_a_column_has_the_smallest_scale_that_is_safe() -> None:
    weight = np.array([[10, 10, -3, 0, 1], [-10, 10, -3, 0, 0], [5, 0, 8, 0, 0]], np.float32)
    levels, scale = quantize_columns(weight)
    # Of two signs a pair cannot add up; of one sign it is the pair that counts; then the largest alone; nothing; one.
    np.testing.assert_allclose(scale, [10 / 127, 20 / 127.4, 8 / 127, 1, 1 / 127], rtol=1e-6)
    assert levels[:, 0].tolist() == [127, -127, 64]
    assert levels[:, 1].tolist() == [64, 64, 0]
    assert not levels[:, 3].any()


def test_the_last_of_an_odd_number_of_rows_has_no_neighbour() -> None:
    levels, _ = quantize_columns(np.full((3, 1), 9, np.float32))
    assert levels[:, 0].tolist() == [64, 64, 64]
    assert quantize_columns(np.full((1, 1), 9, np.float32))[0].tolist() == [[127]]


def test_rows_are_within_half_a_level() -> None:
    table = np.random.default_rng(3).standard_normal((40, 16)).astype(np.float32)
    levels, scale = quantize_rows(table)
    assert levels.dtype == np.int8
    assert (np.abs(levels).max(axis=1) == 127).all()
    assert (np.abs(levels * scale[:, np.newaxis] - table) <= HALF_A_LEVEL * scale[:, np.newaxis]).all()


def test_a_row_of_zeros_stays_zero() -> None:
    levels, scale = quantize_rows(np.zeros((2, 3), np.float32))
    assert not levels.any()
    assert (scale == 1).all()


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("size", [8, 13, 3])
def test_blocks_are_within_half_a_level_of_their_own(bits: int, size: int) -> None:
    block = 4
    # Of very different sizes from block to block
    weight = np.random.default_rng(size).standard_normal((size, 6)).astype(np.float32)
    weight *= 10.0 ** np.arange(size)[:, np.newaxis]
    blocks = quantize_blocks(weight, bits, block)
    count = -(-size // block)
    assert (blocks.levels.shape, blocks.scale.shape, blocks.zero_point.shape) == ((6, count, block), *((6, count),) * 2)
    assert blocks.levels.max() < 2**bits
    assert blocks.zero_point.max() < 2**bits
    restored = blocks.restored()
    assert restored.dtype == np.float32
    assert restored.shape == weight.shape
    # What they say is what they hold: level - zero point, times the scale, of the block that an input is in.
    for row in range(size):
        place, within = divmod(row, block)
        level = blocks.levels[:, place, within].astype(np.float64) - blocks.zero_point[:, place]
        np.testing.assert_allclose(restored[row], level * blocks.scale[:, place], rtol=1e-6)
        assert (np.abs(restored[row] - weight[row]) <= HALF_A_LEVEL * blocks.scale[:, place]).all()


@pytest.mark.parametrize("bits", [8, 4])
def test_zeros_stay_zero_in_blocks(bits: int) -> None:
    weight = np.array([[0, 0], [3, 0], [0, 0], [7, 0], [0, 0]], np.float32)
    blocks = quantize_blocks(weight, bits, 4)
    assert not blocks.restored()[weight == 0].any()
    # The block of nothing and what fills the last one up
    assert (blocks.scale[:, 1] == 1).all()
    assert (blocks.levels[:, 1] == blocks.zero_point[:, 1, np.newaxis]).all()


def test_four_bits_reach_from_the_smallest_to_the_largest() -> None:
    blocks = quantize_blocks(np.array([[-1], [0], [2], [14]], np.float32), 4, 4)
    assert blocks.scale.tolist() == [[1]]
    assert blocks.zero_point.tolist() == [[1]]
    assert blocks.levels.tolist() == [[[0, 1, 3, 15]]]
    # Weights of one sign still hold zero
    assert quantize_blocks(np.array([[5], [15]], np.float32), 4, 2).levels.tolist() == [[[5, 15]]]


def product(activation: npt.NDArray[np.uint8], weight: npt.NDArray[np.int8], zero_point: int) -> npt.NDArray[Any]:
    """What ONNX Runtime's kernel makes of them here, in whole numbers."""
    inputs: dict[str, npt.NDArray[Any]] = {
        "levels": weight,
        "one": np.array(1, np.float32),
        "ones": np.ones(weight.shape[1], np.float32),
        "zero": np.array(zero_point, np.uint8),
        "zeros": np.zeros(weight.shape[1], np.int8),
    }
    values = {name: ir.val(name, const_value=ir.tensor(array, name=name)) for name, array in inputs.items()}
    data = ir.val("data", ir.DataType.UINT8, ["rows", weight.shape[0]])
    operands = [data, *(values[name] for name in ("levels", "one", "ones", "zero", "zeros"))]
    node = ir.node("MatMulIntegerToFloat", operands, domain="com.microsoft", name="product")
    node.outputs[0].name, node.outputs[0].dtype = "out", ir.DataType.FLOAT
    opsets = {"": 20, "com.microsoft": 1}
    graph = ir.Graph(
        [data], node.outputs, nodes=[node], initializers=list(values.values()), opset_imports=opsets, name="g"
    )
    content = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    result: npt.NDArray[np.float32] = session.run(None, {"data": activation})[0]
    return result


def exact(activation: npt.NDArray[np.uint8], weight: npt.NDArray[np.int8], zero_point: int) -> npt.NDArray[np.int64]:
    return (activation.astype(np.int64) - zero_point) @ weight.astype(np.int64)


def adversarial(inputs: int, outputs: int) -> Array:
    """Columns of one sign, of alternating pairs, of a large weight among small ones, and at random."""
    rng = np.random.default_rng(inputs)
    weight = rng.standard_normal((inputs, outputs)).astype(np.float32)
    weight[:, 0::4] = np.abs(weight[:, :1]) + 1
    weight[:, 1::4] = np.where(np.arange(inputs) // 2 % 2, 1, -1)[:, np.newaxis]
    weight[:, 2::4] = 0.5
    weight[0, 2::4] = 1
    return weight


def worst_activations(rows: int, levels: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """All at 255, then 255 where some column is above zero or below, then anything."""
    rng = np.random.default_rng(rows)
    found = rng.integers(0, 256, (rows, len(levels))).astype(np.uint8)
    found[0::3] = 255
    for row in range(1, rows, 3):
        found[row] = np.where(levels[:, row % levels.shape[1]] * (-1) ** row > 0, 255, 0)
    return found


# More rows and columns than a block of any kernel, and odd numbers of inputs.
SHAPES = [
    (rows, inputs, outputs) for rows in (1, 2, 16, 33) for inputs, outputs in ((1, 3), (33, 20), (64, 7), (387, 48))
]


@pytest.mark.parametrize("zero_point", [0, 16, 128])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
def test_the_engine_multiplies_them_exactly(rows: int, inputs: int, outputs: int, zero_point: int) -> None:
    """Sums below 2^24 are whole numbers in float32 too: not one may be off."""
    levels, _ = quantize_columns(adversarial(inputs, outputs))
    activation = worst_activations(rows, levels)
    assert np.array_equal(product(activation, levels, zero_point), exact(activation, levels, zero_point))


@pytest.mark.skipif(adds_int8_products() is not False, reason="this CPU has VNNI: it adds products of 8 bits in 32")
def test_the_engine_saturates_on_weights_that_use_every_level_here() -> None:
    """The test above can fail: one scale per column as everybody takes it, and sums that are not the sum."""
    weight = adversarial(64, 20)
    scale = np.abs(weight).max(axis=0) / 127
    levels = np.rint(weight / scale).astype(np.int8)
    activation = worst_activations(16, levels)
    found, right = product(activation, levels, 0), exact(activation, levels, 0)
    assert (found < right)[0, ::4].all(), "columns of one sign, with all activations at 255"
