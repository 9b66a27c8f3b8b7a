"""What each kind of activation is quantized as, and why: on layers made to be of that kind."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from stcompile.compiler.quantize import choose
from stcompile.compiler.quantize.candidates import (
    FLOAT32,
    INT8,
    PER_TOKEN,
    STATIC,
    STRENGTHS,
    WEIGHTS,
    WEIGHTS_4,
    WEIGHTS_8_COLUMNS,
    Candidate,
)
from stcompile.compiler.quantize.choose import known, options_of
from stcompile.compiler.quantize.integer_graph import write_integer_layers
from stcompile.compiler.quantize.layers import Layer, find_layers
from stcompile.compiler.quantize.plan import Plans, planned
from stcompile.compiler.quantize.recording import Recording
from stcompile.compiler.quantize.schemes import PerToken, StaticRange
from tests.compiler.quantize.graphs import only, parsed, run

Array = npt.NDArray[np.float32]

WIDTH, OUT = 32, 24
ROWS = 800

# The error a plan tells is measured with weights rounded to the nearest; the graph's own are compensated, and a sample
# of the rows was left out. Measured: 0.72 to 1.0.
TOLD = 1.05


def normal(seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((ROWS, WIDTH)).astype(np.float32)


ROWS_FOLDER = tempfile.TemporaryDirectory()


def graph(weight: Array) -> ir.Model:
    return parsed(
        f"""<ir_version: 10, opset_import: ["" : 20]>
        g (float[batch, {WIDTH}] x) => (float[batch, {OUT}] out) {{ out = MatMul(x, kernel) }}""",
        kernel=weight,
    )


def layer_of(weight: Array | None = None) -> Layer:
    weight = np.random.default_rng(9).standard_normal((WIDTH, OUT)).astype(np.float32) if weight is None else weight
    return only(graph(weight))


def seen(rows: Array) -> Recording:
    file = Path(tempfile.mkstemp(dir=ROWS_FOLDER.name)[1])
    rows.tofile(file)
    return Recording(file, rows.min(axis=0), rows.max(axis=0))


def outlier_channel() -> Array:
    rows = normal()
    rows[:, 5] *= 60
    return rows


def different_tokens() -> Array:
    return (normal() * 10.0 ** np.random.default_rng(1).uniform(-1.5, 1.5, (ROWS, 1))).astype(np.float32)


def one_huge_value() -> Array:
    rows = normal()
    rows[100, 3] = 400
    return rows


def cancelling_outliers() -> tuple[Array, Array]:
    """Two large channels that cancel out: what is left of the sum is smaller than one of their levels."""
    rows, weight = normal(), np.random.default_rng(9).standard_normal((WIDTH, OUT)).astype(np.float32)
    rows[:, 0] = rows[:, 2] = 1e5 * (1 + np.abs(rows[:, 0]))
    weight[2] = -weight[0]
    return rows, weight


def true_error(plan: Candidate, rows: Array, weight: Array) -> float:
    """Of the written graph's output, root mean square over tokens of the error's share of their length."""
    model = graph(weight)
    write_integer_layers(model, [planned(only(model), plan, seen(rows))])
    exact = rows.astype(np.float64) @ weight
    share = np.linalg.norm(run(model, x=rows)[0] - exact, axis=1) / np.linalg.norm(exact, axis=1)
    return float(np.sqrt(np.square(share).mean()))


def test_even_activations_have_one_range_for_all() -> None:
    even = np.random.default_rng(2).uniform(-1, 1, (ROWS, WIDTH)).astype(np.float32)
    static, *_, exact = options_of(layer_of(np.sign(layer_of().weights[0])), seen(even), INT8)
    assert (static.scheme, static.observer, static.reason) == (STATIC, "min-max", "")
    assert static.strength is None, "there is nothing to smooth"
    assert (exact.scheme, exact.error) == (FLOAT32, 0)
    assert 0 < known(static) < 0.02


def test_tokens_of_very_different_size_have_a_scale_each() -> None:
    per_token, exact = options_of(layer_of(), seen(different_tokens()), INT8)
    assert per_token.scheme == PER_TOKEN
    assert isinstance(per_token.levels, PerToken)
    assert "a static range makes a relative error of 0." in per_token.reason
    assert known(per_token) < 0.02
    assert exact.scheme == FLOAT32


def test_an_outlier_channel_is_smoothed() -> None:
    layer, rows = layer_of(), outlier_channel()
    smooth = options_of(layer, seen(rows), INT8)[0]
    rough = options_of(dataclasses.replace(layer, shares_weights=True), seen(rows), INT8)[0]
    assert rough.strength is None
    assert smooth.strength in STRENGTHS
    smoothing = planned(layer, smooth, seen(rows)).smoothing
    assert smoothing is not None
    assert smoothing.argmax() == 5
    assert np.exp(np.log(smoothing).mean()) == pytest.approx(1, rel=1e-4)
    assert known(smooth) < 0.5 * known(rough)
    # In the graph as well
    (weight,) = layer.weights
    assert true_error(smooth, rows, weight) < 0.5 * true_error(rough, rows, weight)


@pytest.mark.parametrize("make", [normal, outlier_channel, different_tokens, one_huge_value])
def test_a_plan_is_no_worse_than_it_says(make: Callable[[], Array]) -> None:
    layer, rows = layer_of(), make()
    for plan in options_of(layer, seen(rows), INT8):
        if plan.scheme != FLOAT32:
            assert true_error(plan, rows, layer.weights[0]) <= TOLD * known(plan)


@pytest.mark.parametrize("make", [normal, outlier_channel, different_tokens, one_huge_value])
def test_the_cheapest_comes_first_and_float32_last(make: Callable[[], Array]) -> None:
    plans = options_of(layer_of(), seen(make()), INT8)
    errors = [known(plan) for plan in plans]
    assert errors == sorted(errors, reverse=True)
    assert [plan.scheme for plan in plans][-1] == FLOAT32
    assert len({plan.scheme for plan in plans}) == len(plans)


def test_a_rectified_activation_uses_the_levels_above_zero() -> None:
    rows = np.maximum(different_tokens(), 0)
    plan = options_of(layer_of(), seen(rows), INT8)[0]
    assert isinstance(plan.levels, PerToken)
    assert plan.levels.zero_point <= 8


def test_absurd_outliers_stay_in_float32_and_say_so() -> None:
    rows, weight = cancelling_outliers()
    (plan,) = options_of(layer_of(weight), seen(rows), INT8)
    assert (plan.scheme, plan.error) == (FLOAT32, 0)
    assert plan.reason.startswith("outliers: a relative error of ")


def exact_weight() -> Array:
    """Weights that are levels as they are: whatever error there is comes from the activation."""
    weight = np.zeros((WIDTH, OUT), np.float32)
    weight[0::2] = np.where(np.random.default_rng(4).random((WIDTH // 2, OUT)) < 0.5, -127, 127)
    return weight


def static_of(layer: Layer, rows: Array) -> Candidate:
    """With per-token scales and smoothing out of the way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose, "_STATIC_UP_TO", 1e9)
        plan = options_of(dataclasses.replace(layer, shares_weights=True), seen(rows), INT8)[0]
    assert plan.scheme == STATIC
    return plan


@pytest.mark.parametrize(
    ("percentile", "entropy", "chosen"),
    [
        (1.9, 1.85, "min-max"),
        (1.7, 2.0, "percentile"),
        (1.7, 1.6, "percentile"),
        (1.7, 1.4, "entropy"),
        (1.9, 1.0, "entropy"),
        # Cuts three quarters of the values
        (0.25, 2.0, "min-max"),
    ],
)
def test_a_range_that_cuts_must_be_clearly_better(
    percentile: float, entropy: float, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows within 1: the error follows the range, and a tenth less is clearly better than the range before it."""
    ranges = {"min-max": 2.0, "percentile": percentile, "entropy": entropy}
    observers = {name: (lambda *_, reach=reach: (-reach, reach)) for name, reach in ranges.items()}
    monkeypatch.setattr(choose, "OBSERVERS", MappingProxyType(observers))
    rows = np.random.default_rng(2).uniform(-1, 1, (ROWS, WIDTH)).astype(np.float32)
    plan = static_of(layer_of(exact_weight()), rows)
    assert plan.observer == chosen
    assert isinstance(plan.levels, StaticRange)
    assert plan.levels.scale == pytest.approx(2 * ranges[chosen] / 255)


def test_a_range_may_cut_a_value_that_stands_alone() -> None:
    plan = static_of(layer_of(), one_huge_value())
    assert plan.observer in ("percentile", "entropy")
    assert isinstance(plan.levels, StaticRange)
    assert plan.levels.scale < 0.2 * 400 / 255


def test_a_shared_weight_is_left_as_it_is_for_every_layer() -> None:
    """ALBERT: one weight, two activations of which one would be smoothed. One copy in the graph, rounded alike."""
    text = f"""<ir_version: 10, opset_import: ["" : 20]>
        g (float[batch, {WIDTH}] x, float[batch, {WIDTH}] y) => (float[batch, {OUT}] out, float[batch, {OUT}] again) {{
            out = MatMul(x, kernel)
            again = MatMul(y, kernel)
        }}"""
    (weight,) = layer_of().weights
    model = parsed(text, kernel=weight)
    layers = find_layers(model.graph)
    recorded = [seen(rows) for rows in (outlier_channel(), normal())]
    chosen = [options_of(layer, found, INT8)[0] for layer, found in zip(layers, recorded, strict=True)]
    assert [candidate.strength for candidate in chosen] == [None, None]
    plans = Plans(layers, recorded).of(model, chosen)
    first, second = (plan.columns[0].levels for plan in plans)
    assert np.array_equal(first, second)
    write_integer_layers(model, plans)
    stored = [name for name, value in model.graph.initializers.items() if "int8" in name]
    assert stored == ["kernel_int8"]
    readers = [node for node in model.graph if node.op_type == "MatMulIntegerToFloat"]
    assert len({id(node.inputs[1]) for node in readers}) == 1
    assert len(readers) == 2


def test_weights_of_one_layer_are_smoothed_together() -> None:
    model = parsed(
        f"""<ir_version: 10, opset_import: ["" : 20]>
        g (float[batch, {WIDTH}] x) => (float[batch, {OUT}] q, float[batch, 3] k) {{
            q = MatMul(x, query)
            k = MatMul(x, key)
        }}""",
        query=layer_of().weights[0],
        key=np.random.default_rng(8).standard_normal((WIDTH, 3)).astype(np.float32),
    )
    rows = outlier_channel()
    chosen = options_of(only(model), seen(rows), INT8)[0]
    before = [rows @ weight for weight in only(model).weights]
    assert chosen.strength is not None
    write_integer_layers(model, [planned(only(model), chosen, seen(rows))])
    for expected, found in zip(before, run(model, x=rows), strict=True):
        assert np.abs(found - expected).max() <= 0.05 * np.abs(expected).max()


def test_weights_alone_need_no_smoothing_for_columns() -> None:
    plan, exact = options_of(layer_of(), seen(outlier_channel()), WEIGHTS_8_COLUMNS)
    assert (plan.scheme, plan.bits, plan.strength, exact.scheme) == (WEIGHTS, 8, None, FLOAT32)
    assert 0 < known(plan) < 0.02
    # Never multiplied in 8 bits: every level may be used
    ((levels, _),) = planned(layer_of(), plan, seen(outlier_channel())).columns
    assert (np.abs(levels.astype(np.int64)).max(axis=0) >= 126).all()


def test_blocks_have_an_option_for_each_number_of_bits() -> None:
    four, eight, exact = options_of(layer_of(), seen(outlier_channel()), WEIGHTS_4)
    assert [(plan.scheme, plan.bits) for plan in (four, eight)] == [(WEIGHTS, 4), (WEIGHTS, 8)]
    assert exact.scheme == FLOAT32
    assert known(exact) < known(eight) < known(four) < 0.2
    # The channel that matters most is given the finest levels
    assert four.strength is not None
    rough = options_of(dataclasses.replace(layer_of(), shares_weights=True), seen(outlier_channel()), WEIGHTS_4)[0]
    assert rough.strength is None
    assert known(four) < 0.8 * known(rough)


def test_what_a_layer_never_read_does_not_break_anything() -> None:
    """Channels that are always zero, and rows of nothing."""
    rows = normal()
    rows[:, 4] = 0
    rows[10:20] = 0
    for plan in options_of(layer_of(), seen(rows), INT8):
        assert np.isfinite(known(plan))
        smoothing = planned(layer_of(), plan, seen(rows)).smoothing
        assert smoothing is None or np.isfinite(smoothing).all()
    for plan in options_of(layer_of(), seen(np.zeros((ROWS, WIDTH), np.float32)), INT8):
        assert known(plan) == 0
