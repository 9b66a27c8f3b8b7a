"""The proof that a mask hides padding and does nothing else, on masks that do and masks that nearly do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from stcompile.compiler.passes.constants import added, constant_named, integers
from stcompile.compiler.passes.padding_mask import Window, marks_unseen, position_bias, proofs, window_of

Build = Callable[[ir.Graph, ir.Node], ir.Value]


def number(graph: ir.Graph, name: str, value: float) -> ir.Value:
    return constant_named(graph, name, np.array(value, dtype=np.float32))


def padding(graph: ir.Graph, end: ir.Node, hidden: float = -3e38) -> ir.Value:
    mask = next(value for value in graph.inputs if value.name == "attention_mask")
    kept = added(graph, end, "Cast", [mask], "kept", {"to": ir.DataType.BOOL})
    wide = added(graph, end, "Unsqueeze", [kept, integers(graph, "axes", [1, 2])], "wide")
    return added(graph, end, "Where", [wide, number(graph, "zero", 0), number(graph, "hidden", hidden)], "where")


def seen(graph: ir.Graph, end: ir.Node) -> ir.Value:
    """Hides tokens, too, where the mask is 2."""
    mask = next(value for value in graph.inputs if value.name == "attention_mask")
    kept = added(graph, end, "Equal", [mask, integers(graph, "is_one", [1])], "kept")
    wide = added(graph, end, "Unsqueeze", [kept, integers(graph, "axes", [1, 2])], "wide")
    return added(graph, end, "Where", [wide, number(graph, "zero", 0), number(graph, "hidden", -3e38)], "where")


def seen_or_not(graph: ir.Graph, end: ir.Node) -> ir.Value:
    """Says that it marks tokens that none attends to, and hides padding alone."""
    mask = next(value for value in graph.inputs if value.name == "attention_mask")
    added(graph, end, "Equal", [mask, integers(graph, "is_one", [1])], "unused")
    return padding(graph, end)


def positions(graph: ir.Graph, end: ir.Node, mask: ir.Value) -> ir.Value:
    """0, 1, 2, ... for each key of a mask."""
    length = added(graph, end, "Shape", [mask], "length", {"start": 3})
    scalar = added(graph, end, "Squeeze", [length], "scalar")
    zero, one = (constant_named(graph, f"int_{value}", np.array(value, dtype=np.int64)) for value in (0, 1))
    return added(graph, end, "Range", [zero, scalar, one], "places")


def weak(graph: ir.Graph, end: ir.Node) -> ir.Value:
    return padding(graph, end, hidden=-10)


def shifted(graph: ir.Graph, end: ir.Node) -> ir.Value:
    return added(graph, end, "Add", [padding(graph, end), number(graph, "one", 1)], "shifted")


def by_id(graph: ir.Graph, end: ir.Node) -> ir.Value:
    """Hides the tokens of id 1 as well."""
    ids = next(value for value in graph.inputs if value.name == "input_ids")
    floats = added(graph, end, "Cast", [ids], "floats", {"to": ir.DataType.FLOAT})
    wide = added(graph, end, "Unsqueeze", [floats, integers(graph, "axes", [1, 2])], "wide_ids")
    scaled = added(graph, end, "Mul", [wide, number(graph, "far", -1e9)], "far_ids")
    return added(graph, end, "Add", [padding(graph, end), scaled], "by_id")


def by_position(graph: ir.Graph, end: ir.Node, limit: int = 128) -> ir.Value:
    """Hides what is far from the start: as a window does."""
    mask = padding(graph, end)
    places = positions(graph, end, mask)
    last = constant_named(graph, "limit", np.array(limit, dtype=np.int64))
    far = added(graph, end, "Greater", [places, last], "beyond")
    window = added(graph, end, "Where", [far, number(graph, "hidden", -3e38), number(graph, "zero", 0)], "window")
    return added(graph, end, "Add", [mask, window], "windowed")


def window(graph: ir.Graph, end: ir.Node, before: int = 3, after: int = 128) -> ir.Value:
    """Shows so many keys before a query and behind it."""
    mask = padding(graph, end)
    places = positions(graph, end, mask)
    row = added(graph, end, "Unsqueeze", [places, integers(graph, "row", [0])], "as_row")
    column = added(graph, end, "Unsqueeze", [places, integers(graph, "column", [1])], "as_column")
    distance = added(graph, end, "Sub", [row, column], "distance")
    limits = [constant_named(graph, name, np.array(value)) for name, value in (("first", -before), ("last", after))]
    early = added(graph, end, "Less", [distance, limits[0]], "early")
    late = added(graph, end, "Greater", [distance, limits[1]], "late")
    outside = added(graph, end, "Or", [early, late], "outside")
    hidden = added(graph, end, "Where", [outside, number(graph, "hidden", -3e38), number(graph, "zero", 0)], "out")
    # In halves: twice the lowest number is no number.
    halves = [
        added(graph, end, "Mul", [part, number(graph, "half", 0.5)], f"{part.name}_half") for part in (mask, hidden)
    ]
    return added(graph, end, "Add", halves, "both")


def causal(graph: ir.Graph, end: ir.Node) -> ir.Value:
    return window(graph, end, before=1 << 40, after=0)


def wide_window(graph: ir.Graph, end: ir.Node) -> ir.Value:
    return window(graph, end, before=700, after=700)


def only_itself(graph: ir.Graph, end: ir.Node) -> ir.Value:
    return window(graph, end, before=0, after=0)


def every_other(graph: ir.Graph, end: ir.Node) -> ir.Value:
    """Hides each second key within reach: no window."""
    mask = padding(graph, end)
    places = positions(graph, end, mask)
    two = constant_named(graph, "int_2", np.array(2, dtype=np.int64))
    odd = added(graph, end, "Cast", [added(graph, end, "Mod", [places, two], "odd")], "odds", {"to": ir.DataType.FLOAT})
    hidden = added(graph, end, "Mul", [odd, number(graph, "far", -1e9)], "hidden_odds")
    return added(graph, end, "Add", [mask, hidden], "every_other")


def by_far_position(graph: ir.Graph, end: ir.Node) -> ir.Value:
    """A window that only texts of more than 4000 tokens reach."""
    return by_position(graph, end, limit=4000)


def with_bias(graph: ir.Graph, end: ir.Node) -> ir.Value:
    """Minus the distance of the positions, for one head, and the factor that FuseAttention puts behind."""
    mask = padding(graph, end)
    places = positions(graph, end, mask)
    row = added(graph, end, "Unsqueeze", [places, integers(graph, "row", [0])], "as_row")
    column = added(graph, end, "Unsqueeze", [places, integers(graph, "column", [1])], "as_column")
    distance = added(graph, end, "Sub", [row, column], "distance")
    floats = added(graph, end, "Cast", [distance], "distances", {"to": ir.DataType.FLOAT})
    bias = added(graph, end, "Unsqueeze", [floats, integers(graph, "heads", [0, 1])], "bias")
    total = added(graph, end, "Add", [bias, mask], "total")
    return added(graph, end, "Mul", [total, number(graph, "below_one", float(np.nextafter(np.float32(1), 0)))], "all")


def model(build: Build) -> tuple[ir.Model, ir.Value]:
    inputs = [ir.val(name, ir.DataType.INT64, ["batch", "sequence"]) for name in ("input_ids", "attention_mask")]
    end = ir.node("Identity", [inputs[0]], name="end")
    end.outputs[0].name = "out"
    end.outputs[0].dtype, end.outputs[0].shape = ir.DataType.INT64, ir.Shape(["batch", "sequence"])
    graph = ir.Graph(inputs, [end.outputs[0]], nodes=[end], opset_imports={"": 20}, name="masks")
    mask = build(graph, end)
    mask.dtype = ir.DataType.FLOAT
    return ir.Model(graph, ir_version=10), mask


def test_the_padding_mask_is_one() -> None:
    made, mask = model(padding)
    assert window_of(made, mask) == Window()
    assert proofs(made, [mask])[mask].hides_padding
    assert [value.name for value in made.graph.outputs] == ["out"]


def test_tokens_that_are_not_seen_are_hidden_as_padding_is() -> None:
    made, mask = model(seen)
    assert marks_unseen(made.graph)
    assert not marks_unseen(model(padding)[0].graph)
    assert window_of(made, mask) == Window()


@pytest.mark.parametrize("build", [weak, shifted, by_id, by_position, by_far_position, every_other, seen_or_not])
def test_anything_more_or_less_is_not(build: Build) -> None:
    assert window_of(*model(build)) is None


@pytest.mark.parametrize(
    ("build", "found"),
    [
        (window, Window(3, 128)),
        (causal, Window(None, 0)),
        (wide_window, Window(700, 700)),
        (only_itself, Window(0, 0)),
    ],
)
def test_a_window_is_known_by_its_limits(build: Build, found: Window) -> None:
    made, mask = model(build)
    proof = proofs(made, [mask])[mask]
    assert (proof.is_known, proof.window, proof.hides_padding) == (True, found, False)


def test_a_window_that_no_text_is_longer_than_is_none() -> None:
    made, mask = model(wide_window)
    assert window_of(made, mask, longest=512) == Window()


def test_a_limit_that_no_trial_reaches_is_not_overlooked() -> None:
    """Trials end at 4,096 positions."""
    made, mask = model(lambda graph, end: window(graph, end, before=5000, after=5000))
    assert window_of(made, mask) is None
    assert window_of(made, mask, longest=8192) is None
    assert window_of(made, mask, longest=4000) == Window()


def test_what_only_positions_make_is_told_from_the_mask() -> None:
    made, mask = model(with_bias)
    bias = position_bias(mask)
    assert bias is not None
    assert bias.name == "bias_output"
    assert window_of(made, mask, bias) == Window()
    assert window_of(made, mask) is None


@pytest.mark.parametrize("build", [padding, by_id, shifted])
def test_nothing_else_is_taken_for_a_bias(build: Build) -> None:
    assert position_bias(model(build)[1]) is None
