"""What is made of the chosen: weights that are rounded once, on rows that are held no longer than that."""

from __future__ import annotations

import dataclasses
import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from stcompile.compiler.quantize import plan
from stcompile.compiler.quantize.candidates import FLOAT32, INT8, PER_TOKEN, STATIC, WEIGHTS, Candidate
from stcompile.compiler.quantize.choose import options_of
from stcompile.compiler.quantize.integer_graph import write_integer_layers
from stcompile.compiler.quantize.layers import Layer
from stcompile.compiler.quantize.plan import Plans, planned
from stcompile.compiler.quantize.recording import Recording
from stcompile.compiler.quantize.rounding import compensated_blocks, compensated_columns
from stcompile.compiler.quantize.schemes import PerToken, StaticRange
from stcompile.compiler.quantize.weights import Columns, quantize_blocks, quantize_columns
from tests.compiler.quantize.graphs import only, parsed

Array = npt.NDArray[np.float32]

WIDTH = 48
WEIGHT = {
    name: np.random.default_rng(seed).standard_normal((WIDTH, out)).astype(np.float32)
    for seed, (name, out) in enumerate((("query", 8), ("key", 3), ("value", 8)))
}
ROWS = (np.random.default_rng(9).standard_normal((300, WIDTH)) * np.linspace(0.1, 9, WIDTH)).astype(np.float32)
TOKENS = PerToken(128)


@pytest.fixture
def seen(tmp_path: Path) -> Recording:
    ROWS.tofile(tmp_path / "rows")
    return Recording(tmp_path / "rows", ROWS.min(axis=0), ROWS.max(axis=0))


def attention() -> ir.Model:
    return parsed(
        f"""<ir_version: 10, opset_import: ["" : 20]>
        g (float[batch, {WIDTH}] x) => (float[batch, 8] q, float[batch, 3] k, float[batch, 8] v) {{
            q = MatMul(x, query)
            k = MatMul(x, key)
            v = MatMul(x, value)
        }}""",
        **WEIGHT,
    )


@pytest.fixture
def rounded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The width of each weight whose rounding was compensated."""
    widths: list[int] = []

    def watched(weight: Array, *arguments: Any, **options: Any) -> Columns:
        widths.append(weight.shape[1])
        return compensated_columns(weight, *arguments, **options)

    monkeypatch.setattr(plan, "compensated_columns", watched)
    return widths


@pytest.mark.parametrize("levels", [TOKENS, StaticRange.covering(-9, 9), None], ids=["per token", "static", "float32"])
def test_each_weight_is_rounded_on_what_the_engine_multiplies_it_with(
    levels: PerToken | StaticRange | None, seen: Recording
) -> None:
    made = planned(only(attention()), Candidate(WEIGHTS, levels=levels), seen)
    rows = ROWS if levels is None else levels.restored(ROWS)
    for found, weight in zip(made.columns, WEIGHT.values(), strict=True):
        expected = compensated_columns(weight, rows, pair_safe=True)
        assert np.array_equal(found.levels, expected.levels)
        assert np.array_equal(found.scale, expected.scale)
        assert found.levels.flags.c_contiguous


@pytest.mark.parametrize("bits", [4, 8])
def test_blocks_are_rounded_likewise(bits: int, seen: Recording) -> None:
    made = planned(only(attention()), Candidate(WEIGHTS, bits, block=16), seen)
    for found, weight in zip(made.blocks, WEIGHT.values(), strict=True):
        expected = compensated_blocks(weight, ROWS, bits, 16)
        for name in ("levels", "scale", "zero_point", "size"):
            assert np.array_equal(getattr(found, name), getattr(expected, name)), name
        assert not np.array_equal(found.levels, quantize_blocks(weight, bits, 16).levels)


def test_smoothing_divides_the_rows_and_multiplies_the_weights(seen: Recording) -> None:
    made = planned(only(attention()), Candidate(PER_TOKEN, strength=0.5, levels=TOKENS), seen)
    assert made.smoothing is not None
    # SmoothQuant's equation 4, and a geometric mean of 1.
    weights = np.concatenate([*WEIGHT.values()], axis=1)
    expected = np.sqrt(np.abs(ROWS).max(axis=0) / np.abs(weights).max(axis=1).astype(np.float64))
    np.testing.assert_allclose(made.smoothing, expected / np.exp(np.log(expected).mean()), rtol=1e-5)
    rows = TOKENS.restored(ROWS / made.smoothing)
    for found, weight in zip(made.columns, WEIGHT.values(), strict=True):
        alone = compensated_columns(weight * made.smoothing[:, np.newaxis], rows, pair_safe=True)
        assert np.array_equal(found.levels, alone.levels)


def nearest(layer: Layer, seen: Recording) -> list[Columns]:
    return planned(layer, Candidate(PER_TOKEN, levels=TOKENS)).columns


def of_a_shared_weight(layer: Layer, seen: Recording) -> list[Columns]:
    shared = dataclasses.replace(layer, shares_weights=True)
    return planned(shared, Candidate(PER_TOKEN, levels=TOKENS), seen).columns


@pytest.mark.parametrize("make", [nearest, of_a_shared_weight])
def test_without_rows_and_of_shared_weights_levels_are_the_nearest(
    make: Callable[[Layer, Recording], list[Columns]], seen: Recording, rounded: list[int]
) -> None:
    for found, weight in zip(make(only(attention()), seen), WEIGHT.values(), strict=True):
        assert np.array_equal(found.levels, quantize_columns(weight).levels)
    assert not rounded


def test_only_what_is_written_is_rounded_and_only_once(seen: Recording, rounded: list[int]) -> None:
    """However many graphs: no candidate that lost, no layer in float32, nothing again for another reason."""
    model = attention()
    layer = only(model)
    options = options_of(layer, seen, INT8)
    assert not rounded, "candidates are compared on the nearest levels"
    plans = Plans([layer], [seen])
    for reason in ("", "the accuracy budget"):
        for chosen in (options[0], options[-1]):
            copy = model.clone()
            (made,) = plans.of(copy, [dataclasses.replace(chosen, reason=reason)])
            assert made.layer.nodes == only(copy).nodes, "of the graph that is written"
            assert made.chosen.reason == reason
            write_integer_layers(copy, [made])
    assert rounded == [19], "the three side by side"
    assert options[-1].scheme == FLOAT32


def test_the_manifest_is_told_what_was_chosen(seen: Recording) -> None:
    static = Candidate(STATIC, observer="min-max", levels=StaticRange.covering(-9, 9), error=0.012345, reason="why")
    told = planned(only(attention()), static, seen).summary("query")
    assert (told.route, told.matmuls, told.scheme, told.bits, told.observer) == ("query", 3, STATIC, 8, "min-max")
    assert (told.error, told.sensitivity, told.smoothing, told.reason) == (0.0123, None, None, "why")
    assert planned(only(attention()), Candidate(FLOAT32), seen).summary("").bits == 32


def test_neither_options_nor_plans_hold_rows(seen: Recording) -> None:
    """Those of all layers together are several times the model."""
    layer = only(attention())
    made = [planned(layer, options_of(layer, seen, INT8)[0], seen)]  # what numpy and onnxruntime set up once
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    options = options_of(layer, seen, INT8)
    made.append(planned(layer, options[0], seen))
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(made) == 2
    assert held < ROWS.nbytes / 4
