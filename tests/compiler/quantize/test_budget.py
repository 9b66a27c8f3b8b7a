"""The search for the cheapest plan within a budget, on a small network of a good, a bad and a hopeless layer."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from stcompile.artifact.report import BudgetSummary
from stcompile.compiler.quantize.budget import Apply, Budget, search
from stcompile.compiler.quantize.calibration import Calibration, CalibrationSet
from stcompile.compiler.quantize.candidates import FLOAT32, INT8, WEIGHTS_4, Candidate, Table
from stcompile.compiler.quantize.choose import options_of
from stcompile.compiler.quantize.integer_graph import write_integer_layers
from stcompile.compiler.quantize.layers import find_layers
from stcompile.compiler.quantize.measures import MeanCosineDrop, Measure, MinCosine
from stcompile.compiler.quantize.plan import Plans
from stcompile.compiler.quantize.recording import record
from stcompile.compiler.stack.route import Route
from stcompile.errors import BudgetError, ParityError
from tests.compiler.quantize.graphs import parsed, run, states

Array = npt.NDArray[np.float32]

WIDTH = 24
_RNG = np.random.default_rng(41)
TABLE = _RNG.standard_normal((128, WIDTH)).astype(np.float32)
# Tokens of very different size: one range for all of them is coarse.
TABLE *= (10.0 ** _RNG.uniform(-1, 1, (128, 1))).astype(np.float32)
WEIGHTS = {
    f"w{index}": (_RNG.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)).astype(np.float32) for index in range(6)
}


class Letters:
    """A route of which every letter is a token."""

    front = SimpleNamespace(has_masked_rows=True, probe_texts=list)

    def examples_of(self, texts: Sequence[str]) -> list[str]:
        return list(texts)

    def feeds(self, texts: Sequence[str], prompt: str | None) -> dict[str, npt.NDArray[np.int64]]:
        return {"input_ids": np.array([[ord(letter) % 128 for letter in text] for text in texts], dtype=np.int64)}


TEXTS = tuple(
    "".join(chr(33 + code) for code in _RNG.integers(0, 90, length)) for length in _RNG.integers(1, 12, 60).tolist()
)


@cache
def calibration() -> Calibration:
    return Calibration(CalibrationSet("texts", TEXTS), cast(Route, Letters()))


def network() -> ir.Model:
    """Six layers, each behind what the one before it made; their mean is the sentence embedding."""
    lines = []
    for index in range(6):
        lines.append(f"p{index} = MatMul(h{index}, w{index})")
        lines.append(f"a{index} = Tanh(p{index})")
        lines.append(f"h{index + 1} = Add(a{index}, h{index})")
    model = parsed(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g (int64[batch, sequence] input_ids) => (float[batch, {WIDTH}] sentence_embedding) {{
            h0 = Gather<axis = 0>(table, input_ids)
            {chr(10).join(lines)}
            sentence_embedding = ReduceMean<keepdims = 0>(h6, axes)
        }}
        """,
        table=TABLE,
        axes=np.array([1]),
        **WEIGHTS,
    )
    for name in WEIGHTS:
        model.graph.initializers[name].name = f"layer.{name}.weight"
    return model


ROWS = tempfile.TemporaryDirectory()


@cache
def prepared(table: Table = INT8) -> tuple[ir.Model, list[tuple[Candidate, ...]], Apply]:
    """The network, which nobody changes, what its layers may become, and what writes that."""
    model = network()
    return model, *options_and_writer(model, table)


def options_and_writer(model: ir.Model, table: Table = INT8) -> tuple[list[tuple[Candidate, ...]], Apply]:
    layers = find_layers(model.graph)
    # Read again when a candidate is first written
    folder = Path(tempfile.mkdtemp(dir=ROWS.name))
    seen = record(model, [layer.data for layer in layers], calibration().batches, folder)
    plans = Plans(layers, seen)

    def apply(graph: ir.Model, chosen: Sequence[Candidate]) -> None:
        write_integer_layers(graph, plans.of(graph, chosen))

    return [options_of(layer, recording, table) for layer, recording in zip(layers, seen, strict=True)], apply


def searched(
    limit: float, measure: type[Measure] = MinCosine, table: Table = INT8
) -> tuple[list[Candidate], BudgetSummary, list[str]]:
    """The plan, what it reaches, and what was told on the way."""
    told: list[str] = []
    budget = Budget(measure(calibration().batches), limit)
    model, options, apply = prepared(table)
    plans, reached = search(model, options, budget, calibration(), apply, told.append)
    return plans, reached, told


def vectors(chosen: Sequence[Candidate] | None, apply: Apply) -> Array:
    """Of the whole graph, text by text."""
    model = network()
    if chosen is not None:
        apply(model, chosen)
    return np.concatenate([run(model, **Letters().feeds([text], ""))[0] for text in TEXTS])


def cosines(plans: Sequence[Candidate], apply: Apply | None = None) -> npt.NDArray[np.float64]:
    apply = prepared()[2] if apply is None else apply
    a, b = (vectors(chosen, apply).astype(np.float64) for chosen in (None, plans))
    found: npt.NDArray[np.float64] = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return found


def time_of(plans: Sequence[Candidate]) -> int:
    """How many layers are computed in float32."""
    return sum(plan.scheme == FLOAT32 for plan in plans)


@pytest.fixture(scope="module")
def cheapest() -> float:
    """Smallest cosine with every layer at its cheapest."""
    return float(cosines([choices[0] for choices in prepared()[1]]).min())


def between(cheapest: float, share: float) -> float:
    return 1 - (1 - cheapest) * share


def test_a_wide_budget_takes_every_layer_at_its_cheapest() -> None:
    plans, reached, told = searched(0.5)
    assert plans == [choices[0] for choices in prepared()[1]]
    assert (reached.measure, reached.limit, reached.steps, reached.texts) == ("min_cosine", 0.5, 0, len(TEXTS))
    assert reached.reached == pytest.approx(cosines(plans).min(), abs=1e-5)
    assert all(plan.sensitivity is None for plan in plans), "nothing was searched"
    assert any("min_cosine" in line for line in told)


@pytest.mark.parametrize("share", [0.8, 0.5, 0.2])
def test_a_tighter_budget_is_met_with_as_little_precision_as_needed(share: float, cheapest: float) -> None:
    limit = between(cheapest, share)
    plans, reached, told = searched(limit)
    assert reached.steps > 0
    assert reached.reached >= limit
    assert cosines(plans).min() >= limit, "of the graph itself"
    assert time_of(plans) < len(plans), "not everything in float32"
    moved = [plan for plan in plans if plan.reason == "the accuracy budget"]
    assert moved
    assert all(plan.sensitivity is not None for plan in plans)
    assert sum("sensitivity of layer" in line for line in told) == len(plans)


def test_more_accuracy_takes_more_time(cheapest: float) -> None:
    steps = [searched(between(cheapest, share))[1].steps for share in (2.0, 0.8, 0.3, 0.05)]
    assert steps == sorted(steps)
    assert steps[0] == 0
    assert steps[-1] > steps[1]


def test_one_move_less_would_not_be_enough(cheapest: float) -> None:
    """As far as the ranked moves go: the bisection ends at the first that is within the budget."""
    values: list[float] = []

    class Watched(MinCosine):
        def __call__(self, reference: Array, found: Array) -> float:
            values.append(super().__call__(reference, found))
            return values[-1]

    limit = between(cheapest, 0.3)
    _, reached, told = searched(limit, Watched)
    # At the cheapest, at the most precise, and wherever the bisection looked
    moves = [int(line.split(" after ")[1].split()[0]) for line in told if " after " in line]
    (most,) = {int(line.split(" of ")[1].split()[0]) for line in told if " after " in line}
    found = dict(zip([0, most, *moves], values, strict=True))
    kept = 1 - (1 - limit) * 0.9
    assert found[reached.steps] >= kept > found[reached.steps - 1]


def test_the_layer_that_costs_most_is_moved_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last but one multiplies what it is given by thirty: none costs the embedding more."""
    monkeypatch.setitem(WEIGHTS, "w4", WEIGHTS["w4"] * 30)
    model = network()
    options, apply = options_and_writer(model, WEIGHTS_4)
    found = float(cosines([choices[0] for choices in options], apply).min())
    budget = Budget(MinCosine(calibration().batches), between(found, 0.9))
    plans, reached = search(model, options, budget, calibration(), apply, lambda _: None)
    assert reached.steps == 1
    exact = [choices[-1] for choices in options]
    alone = [
        1 - cosines([*exact[:index], choices[0], *exact[index + 1 :]], apply).mean()
        for index, choices in enumerate(options)
    ]
    assert [bool(plan.reason) for plan in plans] == [cost == max(alone) for cost in alone]
    assert plans[4].reason


def test_sensitivity_is_what_a_layer_alone_costs(cheapest: float) -> None:
    plans, _, _ = searched(between(cheapest, 0.8))
    options = prepared()[1]
    exact = [choices[-1] for choices in options]
    for index, plan in enumerate(plans):
        if plan.scheme == options[index][0].scheme:
            alone = cosines([*exact[:index], options[index][0], *exact[index + 1 :]])
            assert plan.sensitivity == pytest.approx(1 - alone.mean(), rel=0.02, abs=1e-8)


class Told(MinCosine):
    """A measure that always finds the same."""

    def __call__(self, reference: Array, found: Array) -> float:
        return 0.9999749


def test_what_is_recorded_is_not_rounded_out_of_the_budget() -> None:
    limit = 0.999972
    _, reached, _ = searched(limit, Told)
    assert reached.steps == 0
    assert reached.reached >= limit


@pytest.mark.parametrize("measure", [MinCosine, MeanCosineDrop])
def test_what_cannot_be_met_is_an_error(measure: type[Measure]) -> None:
    """Not even every layer in float32 is: something else in the graph costs more."""

    model, options, apply = prepared()

    def spoil(model: ir.Model, chosen: Sequence[Candidate]) -> None:
        apply(model, chosen)
        table = model.graph.initializers["table"]
        assert table.const_value is not None
        table.const_value = ir.tensor(np.rint(table.const_value.numpy()), name="table")

    limit = 0.99999 if measure is MinCosine else 0.00001
    budget = Budget(measure(calibration().batches), limit)
    with pytest.raises(BudgetError, match=r"the budget cannot be met: .* at its most precise.* Nothing was published"):
        search(model, options, budget, calibration(), spoil, lambda _: None)
    assert issubclass(BudgetError, ParityError)


def test_the_graph_is_left_as_it_was(cheapest: float) -> None:
    model = network()
    before = states(model)
    options, apply = options_and_writer(model)
    assert states(model) == before
    budget = Budget(MinCosine(calibration().batches), between(cheapest, 0.3))
    search(model, options, budget, calibration(), apply, lambda _: None)
    assert states(model) == before


def test_the_search_keeps_a_tenth_of_the_budget_back() -> None:
    """What is judged later are other texts too."""
    measure = MinCosine(calibration().batches)
    assert not Budget(measure, 0.99).allows(0.9905)
    assert Budget(measure, 0.99).allows(0.9911)
    drop = MeanCosineDrop(calibration().batches)
    assert not Budget(drop, 0.01).allows(0.0095)
    assert Budget(drop, 0.01).allows(0.0089)
    assert not Budget(measure, 0.99).allows(float("nan"))
    assert not Budget(drop, 0.01).allows(float("nan"))


def test_a_mean_may_be_the_budget() -> None:
    loose, tight = (searched(limit, MeanCosineDrop) for limit in (0.5, 1e-6))
    assert loose[1].steps == 0
    assert tight[1].steps > 0
    assert tight[1].measure == "mean_cosine_drop"
    assert 1 - cosines(tight[0]).mean() <= 1e-6


def test_four_bits_go_to_eight_before_they_go_to_float32() -> None:
    _, options, apply = prepared(WEIGHTS_4)
    four = float(cosines([choices[0] for choices in options], apply).min())
    plans, reached, _ = searched(between(four, 0.4), table=WEIGHTS_4)
    assert reached.steps > 0
    assert {plan.bits for plan in plans if plan.scheme != FLOAT32} == {4, 8}
    assert FLOAT32 not in {plan.scheme for plan in plans}


def test_a_layer_without_a_choice_is_kept_as_it_is() -> None:
    """One that outliers keep in float32 has one option."""
    model, found, apply = prepared(WEIGHTS_4)
    options = list(found)
    only = dataclasses.replace(options[3][-1], reason="outliers: a relative error of 0.70 in 8 bits")
    options[3] = (only,)
    four = float(cosines([choices[0] for choices in options], apply).min())
    budget = Budget(MinCosine(calibration().batches), between(four, 0.5))
    plans, _ = search(model, options, budget, calibration(), apply, lambda _: None)
    assert plans[3] is only
    assert all(plan.scheme != FLOAT32 for plan in plans if plan is not only)
