"""CleanGraph: the same bytes for the same model, the names that stay, and what goes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from stcompile.compiler.passes import CleanGraph

_GRAPH = """
<ir_version: 10, opset_import: ["" : 20, "unused.domain" : 1]>
g (float[N] x) => (float[N] y) {
  first = Add (x, layer.weight)
  second = Add (x, layer.weight)
  same = Identity (second)
  number = Constant <value_float = 2.0> ()
  scaled = Mul (first, number)
  again = Mul (same, val_1)
  dead = Neg (x)
  sum = Add (scaled, again)
  y = Add (sum, other.weight)
}
"""


def _build(from_text: Callable[..., ir.Model]) -> ir.Model:
    row = np.arange(3, dtype=np.float32)
    text = _GRAPH.replace("layer.weight", "layer_weight").replace("other.weight", "other_weight")
    arrays = {"layer_weight": row, "other_weight": row, "val_1": np.array(2.0, np.float32)}
    model = from_text(text, **arrays)
    model.graph.register_initializer(ir.val("unused", const_value=ir.tensor(row + 1)))
    for name in ("layer_weight", "other_weight"):
        model.graph.initializers[name].name = name.replace("_", ".")
    return model


def test_cleans_and_keeps_the_numbers(from_text: Callable[..., ir.Model], assert_same: Callable[..., None]) -> None:
    before, model = _build(from_text), _build(from_text)

    result = CleanGraph()(model)

    assert result.rewrites > 0
    assert [node.name for node in model.graph] == ["Add_0", "Mul_0", "Add_1", "Add_2"]
    assert [value.name for node in model.graph for value in node.outputs] == ["v0", "v1", "v2", "y"]
    assert list(model.graph.initializers) == ["layer.weight", "c0"]
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert dict(model.graph.opset_imports) == {"": 20}
    assert_same(before, model, [{"x": np.array([1.0, -2.0, 3.0], np.float32)}])


def test_a_second_run_changes_nothing(from_text: Callable[..., ir.Model]) -> None:
    model = CleanGraph()(_build(from_text)).model
    cleaned = ir.to_proto(model).SerializeToString()

    result = CleanGraph()(model)

    assert (result.rewrites, result.refusals) == (0, ("the graph is already clean",))
    assert ir.to_proto(model).SerializeToString() == cleaned


def test_notes_go(from_text: Callable[..., ir.Model]) -> None:
    model = _build(from_text)
    node = next(iter(model.graph))
    weight = model.graph.initializers["layer.weight"]
    assert weight.const_value is not None
    for holder in (model, model.graph, node, node.outputs[0], model.graph.inputs[0], weight):
        holder.metadata_props["trace"] = "/a/path.py:1"
        holder.doc_string = "a note"
    weight.const_value = ir.tensor(weight.const_value.numpy(), name=weight.name, doc_string="a note")

    CleanGraph()(model)

    assert b"note" not in ir.to_proto(model).SerializeToString()
    assert b"path" not in ir.to_proto(model).SerializeToString()


def test_functions_are_inlined(from_text: Callable[..., ir.Model], assert_same: Callable[..., None]) -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 20, "local" : 1]>
    g (float[N] x) => (float[N] y) { z = local.double (x)  y = Neg (z) }
    <domain: "local", opset_import: ["" : 20]>
    double (a) => (b) { b = Add (a, a) }
    <domain: "local", opset_import: ["" : 20]>
    never (a) => (b) { b = Abs (a) }
    """
    before, model = ir.from_onnx_text(text), ir.from_onnx_text(text)

    CleanGraph()(model)

    assert not model.functions
    assert [node.op_type for node in model.graph] == ["Add", "Neg"]
    assert dict(model.graph.opset_imports) == {"": 20}
    assert_same(before, model, [{"x": np.array([1.0, -2.0], np.float32)}])


def test_low_precision_tensors_are_compared_too() -> None:
    values = [ir.val(f"w.{i}", const_value=ir.tensor([1.0, 2.0], dtype=ir.DataType.BFLOAT16)) for i in range(2)]
    total = ir.node("Add", values)
    total.outputs[0].name = "y"
    graph = ir.Graph([], total.outputs, nodes=[total], initializers=values, opset_imports={"": 20}, name="g")

    CleanGraph()(ir.Model(graph, ir_version=10))

    assert list(graph.initializers) == ["w.0"]


def test_two_traces_are_the_same_bytes(trace: Callable[[str], ir.Model], retrace: Callable[[str], ir.Model]) -> None:
    first, second = CleanGraph()(trace("mpnet")).model, CleanGraph()(retrace("mpnet")).model

    assert ir.to_proto(first).SerializeToString() == ir.to_proto(second).SerializeToString()


def test_a_folded_weight_takes_its_parameters_name(trace: Callable[[str], ir.Model]) -> None:
    model = CleanGraph()(trace("mpnet")).model

    weights = {node.inputs[1].name for node in model.graph if node.op_type == "MatMul" and node.inputs[1] is not None}
    assert "model.encoder.layer.0.attention.attn.q.weight" in weights
    assert "model.encoder.layer.0.output.dense.weight" in weights
