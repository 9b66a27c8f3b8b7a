"""A graph of somebody else's with the rest of its stack behind it: one graph, of which theirs is kept as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir
from onnxscript import version_converter
from torch import Tensor, nn, zeros

from stcompile.compiler.modules.base import Example
from stcompile.compiler.modules.graph_network import GraphNetwork
from stcompile.compiler.modules.onnx_file import read_onnx
from stcompile.compiler.modules.transformer import Transformer
from stcompile.compiler.stack.route import Route
from stcompile.errors import UnsupportedError, one_line

# What the values of the modules behind are called, so that none has the name of one of theirs.
_BEHIND = "behind."

_AXES = ("batch", "sequence")


def network_of(route: Route) -> GraphNetwork | None:
    """The graph that a route's network is; None where it is a network of torch."""
    return route.front.kept if isinstance(route.front, Transformer) else None


class Behind(nn.Module):
    """What stands behind the module that reads text; its first input is what that makes."""

    def __init__(self, route: Route, outputs: Sequence[str]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(list(route.blocks)[1:])
        self.names = route.input_names
        self.writes = route.front.writes
        self.outputs = tuple(outputs)

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        features = dict(zip((self.writes, *self.names), inputs, strict=True))
        for block in self.blocks:
            features = block(features)
        return tuple(features[name] for name in self.outputs)

    @staticmethod
    def examples(route: Route) -> dict[str, Example]:
        """What to trace each input with."""
        others = route.examples()
        batch, sequence = others["input_ids"].value.shape
        hidden = Example(zeros(batch, sequence, route.front.out_width(0) or 1), _AXES)
        return {route.front.writes: hidden, **others}


def joined(route: Route, network: GraphNetwork, behind: ir.Model | None, outputs: Sequence[str]) -> ir.Model:
    """The graph of a network with what is traced of the modules behind it.

    Args:
        route: whose network it is.
        network: the graph.
        behind: takes what the graph makes and then the route's inputs; None where the graph has pooled already.
        outputs: what it ends in, in order.

    Returns:
        a graph whose inputs are the route's `input_names`, int64 `(batch, sequence)`.

    Raises:
        UnsupportedError: its operators are of a version that cannot be made one with what is traced.
    """
    model = read_onnx(network.path)
    # What lies beside it would be looked for beside the artifact's graph.
    ir.external_data.load_to_model(model)
    versions = [one.graph.opset_imports[""] for one in (model, behind) if one is not None]
    for one in (model, behind):
        if one is not None:
            _raise_to(one, max(versions), network.path.name)
    graph = model.graph
    made = next(value for value in graph.outputs if value.name == network.output)
    inputs = _inputs(graph, {name: example.axes for name, example in route.examples().items()})
    made = _as(graph, made, ir.DataType.FLOAT)
    graph.outputs.clear()
    if behind is None:
        made.name = outputs[0]
        graph.outputs.append(made)
    else:
        _append(model, behind, [made, *(inputs[name] for name in route.input_names)], outputs)
    graph.sort()
    return model


def _raise_to(model: ir.Model, version: int, name: str) -> None:
    if model.graph.opset_imports[""] == version:
        return
    cause: Exception | None = None
    try:
        version_converter.convert_version(model, version, fallback=True)
    except Exception as error:  # of onnxscript and of onnx, for whatever operator
        cause = error
    found = model.graph.opset_imports[""]
    if cause is not None or found != version:
        why = "" if cause is None else f" ({one_line(cause, 200)})"
        raise UnsupportedError(
            name,
            f"its operators are of version {found}, which cannot be made version {version}{why}: name another "
            "file with --file",
        ) from cause


def _inputs(graph: ir.Graph, wanted: Mapping[str, Sequence[str]]) -> dict[str, ir.Value]:
    """The graph's inputs made the route's, given by their axes: in order, int64; what it takes besides is zero."""
    given = {str(value.name): value for value in graph.inputs}
    made: dict[str, ir.Value] = {}
    for name, axes in wanted.items():
        ours = ir.val(name, ir.DataType.INT64, tuple(axes))
        made[name] = ours
        theirs = given.get(name)
        if theirs is None:
            continue
        theirs.name = f"{name}.given"
        theirs.replace_all_uses_with(_as(graph, ours, theirs.dtype))
    ids = made["input_ids"]
    for name, theirs in given.items():
        if name not in made:  # token types that the tokenizer does not make
            nothing = _node(graph, "Sub", [ids, ids])
            nothing.dtype = ir.DataType.INT64
            theirs.replace_all_uses_with(_as(graph, nothing, theirs.dtype))
    graph.inputs.clear()
    graph.inputs.extend(made.values())
    return made


def _append(model: ir.Model, behind: ir.Model, values: Sequence[ir.Value], outputs: Sequence[str]) -> None:
    """Puts the nodes of one graph behind another's, reading `values` in the place of its inputs."""
    rest = behind.graph
    for theirs, ours in zip(list(rest.inputs), values, strict=True):
        theirs.replace_all_uses_with(ours)
    nodes = list(rest)
    for value in (*rest.initializers.values(), *(value for node in nodes for value in node.outputs)):
        value.name = f"{_BEHIND}{value.name}"
    ends = list(rest.outputs)
    weights = list(rest.initializers.values())
    rest.outputs.clear()
    rest.initializers.clear()
    rest.remove(nodes)
    for value in weights:
        model.graph.initializers[str(value.name)] = value
    for node in nodes:
        node.name = f"{_BEHIND}{node.name}"
    model.graph.extend(nodes)
    for value, name in zip(ends, outputs, strict=True):
        value.name = name
    model.graph.outputs.extend(ends)
    for domain, version in rest.opset_imports.items():
        model.graph.opset_imports.setdefault(domain, version)
    model.ir_version = max(model.ir_version, behind.ir_version)


def _as(graph: ir.Graph, value: ir.Value, dtype: ir.DataType | None) -> ir.Value:
    """The value in a number type; itself where it has that, or where no type is known."""
    if dtype is None or value.dtype in (dtype, None):
        return value
    made = _node(graph, "Cast", [value], to=dtype)
    made.dtype, made.shape = dtype, value.shape
    return made


def _node(graph: ir.Graph, operator: str, inputs: list[ir.Value], **attributes: Any) -> ir.Value:
    """A new node at the end of a graph, which is sorted later: its output."""
    node = ir.node(operator, inputs, attributes or None)
    graph.append(node)
    value: ir.Value = node.outputs[0]
    return value
