"""The proof that a mask hides padding and does nothing else, on masks that do and masks that nearly do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from stcompile.compiler.passes.constants import added, constant_named, integers
from stcompile.compiler.passes.padding_mask import is_padding_mask, position_bias

Build = Callable[[ir.Graph, ir.Node], ir.Value]


def number(graph: ir.Graph, name: str, value: float) -> ir.Value:
    return constant_named(graph, name, np.array(value, dtype=np.float32))


def padding(graph: ir.Graph, end: ir.Node, hidden: float = -3e38) -> ir.Value:
    mask = next(value for value in graph.inputs if value.name == "attention_mask")
    kept = added(graph, end, "Cast", [mask], "kept", {"to": ir.DataType.BOOL})
    wide = added(graph, end, "Unsqueeze", [kept, integers(graph, "axes", [1, 2])], "wide")
    return added(graph, end, "Where", [wide, number(graph, "zero", 0), number(graph, "hidden", hidden)], "where")


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
    assert is_padding_mask(made, mask)
    assert [value.name for value in made.graph.outputs] == ["out"]


@pytest.mark.parametrize("build", [weak, shifted, by_id, by_position, by_far_position])
def test_anything_more_or_less_is_not(build: Build) -> None:
    assert not is_padding_mask(*model(build))


def test_what_only_positions_make_is_told_from_the_mask() -> None:
    made, mask = model(with_bias)
    bias = position_bias(mask)
    assert bias is not None
    assert bias.name == "bias_output"
    assert is_padding_mask(made, mask, bias)
    assert not is_padding_mask(made, mask)


@pytest.mark.parametrize("build", [padding, by_id, shifted])
def test_nothing_else_is_taken_for_a_bias(build: Build) -> None:
    assert position_bias(model(build)[1]) is None
