"""The fused operators as nodes: what they take from a node, what they refuse, and what stands beside a text."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from stcompile.kernels import native
from tests.kernels import run_cases
from tests.kernels.layer_kinds import KINDS
from tests.kernels.layers import ACTIVATIONS, BFLOAT16, FLOAT32, INT8, OPERATORS, UNSEEN, Layer, error

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
    with pytest.raises(Exception, match=r"is not \(batch or 1, heads or 1, sequence, sequence\)"):
        layer.session(operator, biased=True).run(None, {**feeds, "bias": feeds["bias"][..., :-1]})


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
def test_weights_that_no_cache_holds_give_the_same_bits_whatever_stands_beside_a_text(operator: str) -> None:
    """More tokens at once, by how many there are."""
    layer = Layer(768, 800, 12)
    feeds = layer.feeds([170, 1, 66, 300], "right")
    (together,) = layer.session(operator, 3).run(None, feeds)
    alone = layer.session(operator)
    for index, text in enumerate(layer.alone(feeds)):
        (row,) = alone.run(None, text)
        assert np.array_equal(row[0], together[index, feeds["mask"][index] != 0])


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("lengths", [[1], [7], [40], [13, 64, 15]])
def test_threads_share_the_columns_of_few_tokens(operator: str, lengths: list[int]) -> None:
    """Of weights that no cache holds, those of every kind of part."""
    layer = dataclasses.replace(KINDS["embedding_gemma"], hidden=520, intermediate=1032, head_size=128, rotary=32)
    feeds = layer.feeds(lengths)
    (shared,) = layer.session(operator, 3).run(None, feeds)
    (alone,) = layer.session(operator).run(None, feeds)
    assert np.array_equal(shared, alone)
    assert error(shared, layer.expected(feeds)) <= 2 * LARGEST_ERROR[operator]


@pytest.mark.parametrize("operator", OPERATORS)
def test_nothing_but_padding_is_zeros(operator: str) -> None:
    layer = Layer(64, 128, 2)
    session = layer.session(operator)
    for shape in ((2, 3), (0, 3), (2, 0)):
        hidden = np.full((*shape, 64), np.nan, dtype=np.float32)
        (found,) = session.run(None, {"hidden": hidden, "mask": np.zeros(shape, dtype=np.int64)})
        assert found.shape == hidden.shape
        assert not found.any()


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("operator", OPERATORS)
def test_what_is_no_number_is_not_hidden_from_the_tokens_that_attend_to_it(operator: str, number: float) -> None:
    layer = Layer(64, 128, 2)
    feeds = layer.feeds([5, 20], "right")
    session = layer.session(operator)
    (clean,) = session.run(None, feeds)
    for place in (0, 17, 63):
        broken = {**feeds, "hidden": feeds["hidden"].copy()}
        broken["hidden"][1, 7, place] = number
        (found,) = session.run(None, broken)
        assert np.isnan(found[1]).all()
        assert np.array_equal(found[0], clean[0])


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
        # Two heads of 16 numbers, in arithmetic of 64 bits.
        ({"heads": 2**60 + 2, "kv_heads": 2, "head_size": 16}, "the number of heads is above 16777216"),
        ({"hidden": 2**32, "head_size": 16}, "the hidden size is above 16777216"),
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
@pytest.mark.parametrize(
    ("name", "changed", "reason"),
    [
        ("before", {"norms": "between"}, "norms is between, which is none of after, before, around"),
        ("before", {"norms": ""}, "norms is , which is none of after, before, around"),
        ("before", {"normalization": "batch"}, "normalization is batch, which is none of layer, rms"),
        ("silu", {"activation": "swish"}, "activation is swish, which is none of gelu, gelu_tanh, silu, relu"),
        ("shared_by_two", {"kv_heads": 3}, "heads is no multiple of the number of key and value heads"),
        ("shared_by_two", {"kv_heads": 0}, "the number of key and value heads is no multiple of 1"),
        ("shared_by_two", {"kv_heads": 4}, "input 2 is not of the size its layer needs"),
        ("before", {"gated": 1}, "input .* is not of the size its layer needs"),
        ("gated_relu", {"gated": 0}, "input .* is not of the size its layer needs"),
        ("causal", {"after": 0.0}, "after is of another type"),
        ("soft_cap", {"soft_cap": 1}, "soft_cap is of another type"),
        ("before", {"norms": 1}, "norms is of another type"),
        ("causal", {"after": -2}, "after is below -1, which is no limit"),
        ("causal", {"before": -9}, "before is below -1, which is no limit"),
        ("soft_cap", {"soft_cap": -1.0}, "soft_cap is neither a positive number nor 0, which is none"),
        ("soft_cap", {"soft_cap": float("nan")}, "soft_cap is neither a positive number nor 0, which is none"),
        ("soft_cap", {"soft_cap": float("inf")}, "soft_cap is neither a positive number nor 0, which is none"),
        ("after_rms", {"first_norm": 0}, "first_norm is 0, but norms stand after"),
        ("before", {"norms": "around"}, "gain_3 and shift_3 belong to norms around, and only to them"),
        ("around", {"norms": "before"}, "gain_3 and shift_3 belong to norms around, and only to them"),
        ("around", {"without": ["gain_3"]}, "gain_3 and shift_3 belong to norms around, and only to them"),
        ("around", {"without": ["shift_4"]}, "gain_4 and shift_4 belong to norms around, and only to them"),
        ("head_norms", {"without": ["query_gain"]}, "there is one of query_gain and key_gain without the other"),
        ("head_norms", {"without": ["key_gain"]}, "there is one of query_gain and key_gain without the other"),
        ("rotary_4", {"without": ["sin"]}, "there is one of rotary_cos and rotary_sin without the other"),
        ("rotary_4", {"without": ["cos"]}, "there is one of rotary_cos and rotary_sin without the other"),
    ],
)
def test_parts_that_do_not_fit_are_refused_at_load(
    operator: str, name: str, changed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Exception, match=reason):
        KINDS[name].session(operator, **changed)


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_part_of_another_size_or_that_is_not_constant_is_refused_at_load(operator: str) -> None:
    layer = KINDS["head_norms"]
    place = list(layer.model(operator).graph.node[0].input).index("query_gain")
    short = layer.model(operator)
    (gain,) = (tensor for tensor in short.graph.initializer if tensor.name == "query_gain")
    gain.CopyFrom(numpy_helper.from_array(layer.head_gains[0][:-1], "query_gain"))
    with pytest.raises(Exception, match=f"input {place} is not of the size its layer needs"):
        run_cases.session(short.SerializeToString())
    given = layer.model(operator, without=["query_gain"])
    given.graph.input.append(helper.make_tensor_value_info("query_gain", TensorProto.FLOAT, [layer.head]))
    given.graph.node[0].input[place] = "query_gain"
    with pytest.raises(Exception, match=f"input {place} is not constant"):
        run_cases.session(given.SerializeToString())


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(
    ("cos", "sin"),
    [((1, 9, 4), (1, 9, 4)), ((2, 8, 4), (2, 8, 4)), ((2, 9, 4), (2, 9, 3)), ((2, 9, 9), (2, 9, 9)), ((2, 9, 0),) * 2],
)
def test_angles_of_another_shape_are_refused(operator: str, cos: tuple[int, ...], sin: tuple[int, ...]) -> None:
    layer = KINDS["rotary_4"]
    feeds = layer.feeds([9, 9], "right")
    feeds |= {"cos": np.zeros(cos, dtype=np.float32), "sin": np.zeros(sin, dtype=np.float32)}
    with pytest.raises(Exception, match="rotary_cos and rotary_sin are not both"):
        layer.session(operator).run(None, feeds)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", ["modern_bert", "qwen_3", "embedding_gemma", "gemma_2"])
@pytest.mark.parametrize("threads", [1, 3])
def test_other_kinds_come_out_the_same_bit_by_bit_whatever_stands_beside_a_text(
    operator: str, name: str, threads: int
) -> None:
    layer = KINDS[name]
    feeds = layer.feeds([170, 1, 17, 40, 310], "left")
    (together,) = layer.session(operator, threads).run(None, feeds)
    alone = layer.session(operator)
    for index, text in enumerate(layer.alone(feeds)):
        (row,) = alone.run(None, text)
        assert np.array_equal(row[0], together[index, feeds["mask"][index] != 0])


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("threads", [1, 3])
def test_tokens_that_none_attends_to_change_no_other(operator: str, threads: int) -> None:
    """Bit by bit: what is left of a text without them is what it is beside them, but for their own rows."""
    layer = Layer(64, 128, 2)
    feeds = layer.feeds([60, 9, 300], "unseen")
    (found,) = layer.session(operator, threads).run(None, feeds)
    without = {**feeds, "mask": np.where(feeds["mask"] == UNSEEN, 0, feeds["mask"])}
    (seen,) = layer.session(operator, threads).run(None, without)
    assert found[feeds["mask"] == UNSEEN].any(axis=-1).all()
    np.testing.assert_allclose(found[feeds["mask"] == 1], seen[feeds["mask"] == 1], atol=LARGEST_ERROR[operator])


# A text shorter than a window and one far longer are one to what has no window.
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", ["modern_bert", "window_5_64"])
def test_a_limit_beyond_a_text_is_none(operator: str, name: str) -> None:
    layer = KINDS[name]
    feeds = layer.feeds([150, 31])
    wide = dataclasses.replace(layer, before=2**40 + 5, after=10**6)
    (limited,) = wide.session(operator).run(None, feeds)
    assert error(limited, dataclasses.replace(layer, before=-1, after=-1).expected(feeds)) <= LARGEST_ERROR[operator]


# Relative to the largest number that comes out; behind each, what was measured at most.
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("operator", "largest"), [(BFLOAT16, 0.01), (FLOAT32, 1e-6)])
def test_activations_reach_as_far_as_numbers_do(operator: str, largest: float, activation: str, gated: bool) -> None:
    layer = Layer(64, 64, 2, norms="before", activation=activation, gated=gated)
    width = len(layer.linears["up"].bias)
    bias = np.resize(np.array([-1e15, -1e4, -300, -88, -20, -5, -1e-3, 0, 1e-3, 5, 20, 88, 300], np.float32), width)
    if activation == "gelu":  # whose polynomial is no exact zero there
        bias = np.maximum(bias, -300)
    if gated:
        bias[layer.intermediate :] = 1
    layer.linears["up"] = dataclasses.replace(layer.linears["up"], bias=bias)
    feeds = layer.feeds([9, 4])
    with np.errstate(over="ignore"):
        expected = layer.expected(feeds, operator)
    (found,) = layer.session(operator).run(None, feeds)
    assert np.isfinite(expected).all()
    assert np.abs(found - expected).max() <= largest * np.abs(expected).max()


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_mask_of_another_shape_is_refused(operator: str) -> None:
    layer = Layer(64, 128, 2)
    feeds = layer.feeds([5, 4])
    with pytest.raises(Exception, match="hidden states and attention mask are not of one shape"):
        layer.session(operator).run(None, {**feeds, "mask": feeds["mask"][:, :4]})
