"""The fused operators as nodes: what they take from a node, what they refuse, and what stands beside a text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stcompile.kernels import native
from tests.kernels.layers import BFLOAT16, FLOAT32, INT8, OPERATORS, Layer, error

pytestmark = pytest.mark.skipif(bool(native.refusals()), reason="; ".join(native.refusals()) or "they run here")

# Root mean square of the error as a share of the layer's output in float64; behind each, what was measured at most.
LARGEST_ERROR = {INT8: 0.025, BFLOAT16: 0.005, FLOAT32: 2e-6}  # 0.0216, 0.0034, 7e-7

# hidden, intermediate, heads: heads of 32, 64, 96 and 128.
SIZES = [(64, 128, 2), (128, 64, 2), (192, 256, 2), (256, 128, 2), (384, 1536, 12)]
LENGTHS = [1, 2, 5, 6, 7, 15, 16, 17, 63, 64, 65, 130]


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("sizes", SIZES)
def test_it_is_the_layer_in_float64(operator: str, sizes: tuple[int, int, int]) -> None:
    layer = Layer(*sizes, pair_safe=False)
    session = layer.session(operator)
    for length in LENGTHS:
        feeds = layer.feeds([length, length // 2 + 1, 1])
        (found,) = session.run(None, feeds)
        assert error(found, layer.expected(feeds)) <= LARGEST_ERROR[operator], length


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_error_bound_can_fail(operator: str) -> None:
    """One head fewer is another layer."""
    layer = Layer(128, 64, 2)
    feeds = layer.feeds([9, 9], "right")
    (found,) = layer.session(operator, heads=4).run(None, feeds)
    assert error(found, layer.expected(feeds)) > 5 * LARGEST_ERROR[operator]


@pytest.mark.parametrize("operator", OPERATORS)
def test_another_bias_than_that_of_the_positions_is_refused(operator: str) -> None:
    layer = Layer(128, 64, 2)
    feeds = layer.feeds([5, 7], bias=2)
    with pytest.raises(Exception, match=r"is not \(batch or 1, heads, sequence, sequence\)"):
        layer.session(operator, biased=True).run(None, {**feeds, "bias": feeds["bias"][:, :1]})


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("threads", [1, 3])
def test_a_text_comes_out_the_same_bit_by_bit_whatever_stands_beside_it(operator: str, threads: int) -> None:
    layer = Layer(192, 256, 2)
    feeds = layer.feeds([70, 1, 17, 40, 66])
    (together,) = layer.session(operator, threads).run(None, feeds)
    alone = layer.session(operator)
    for index, text in enumerate(layer.alone(feeds)):
        (row,) = alone.run(None, text)
        assert np.array_equal(row[0], together[index, feeds["mask"][index] != 0])


@pytest.mark.parametrize("operator", OPERATORS)
def test_several_threads_take_many_tokens_through_a_narrow_network(operator: str) -> None:
    """Blocks of threads that did nothing else before, with an intermediate size below the hidden size."""
    layer = Layer(256, 64, 2)
    feeds = layer.feeds([40, 33, 1, 17, 39, 38, 8])
    (together,) = layer.session(operator, 4).run(None, feeds)
    (alone,) = layer.session(operator).run(None, feeds)
    assert np.array_equal(together, alone)
    assert error(together, layer.expected(feeds)) <= LARGEST_ERROR[operator]


@pytest.mark.parametrize("operator", OPERATORS)
def test_nothing_but_padding_is_zeros(operator: str) -> None:
    layer = Layer(64, 128, 2)
    session = layer.session(operator)
    for shape in ((2, 3), (0, 3), (2, 0)):
        hidden = np.full((*shape, 64), np.nan, dtype=np.float32)
        (found,) = session.run(None, {"hidden": hidden, "mask": np.zeros(shape, dtype=np.int64)})
        assert found.shape == hidden.shape
        assert not found.any()


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"heads": 3}, "the hidden size is no multiple of the number of heads"),
        ({"heads": 0}, "the number of heads is no multiple of 1"),
        ({"heads": 16}, "the size of a head is no multiple of 16"),
        ({"head_size": 24}, "the size of a head is no multiple of 16"),
        ({"head_size": 0}, "the size of a head is no multiple of 16"),
        ({"head_size": 32}, "input 2 is not of the size its layer needs"),
        ({"hidden": 76}, "the hidden size is no multiple of 8"),
        ({"intermediate": 100}, "the intermediate size is no multiple of 8"),
        ({"intermediate": 192}, "input .* is not of the size its layer needs"),
    ],
)
def test_other_sizes_are_refused_at_load(operator: str, changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(Exception, match=reason):
        Layer(128, 128, 2).session(operator, **changed)


@pytest.mark.parametrize("zero_point", [-1, 129, 255])
def test_a_zero_point_beyond_the_middle_is_refused_at_load(zero_point: int) -> None:
    with pytest.raises(Exception, match="up_zero_point is not from 0 to 128"):
        Layer(64, 128, 2).session("EncoderLayerInt8", up_zero_point=zero_point)


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_mask_of_another_shape_is_refused(operator: str) -> None:
    layer = Layer(64, 128, 2)
    feeds = layer.feeds([5, 4])
    with pytest.raises(Exception, match="hidden states and attention mask are not of one shape"):
        layer.session(operator).run(None, {**feeds, "mask": feeds["mask"][:, :4]})
