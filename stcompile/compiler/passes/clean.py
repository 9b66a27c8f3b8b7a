"""The graph without what does not compute: stable names, no notes, nothing twice, nothing unused."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from stcompile.compiler.passes.base import PassResult

# Of an ONNX tensor that means something
_MOST_AXES = 8

_FOLDED_FROM = "pkg.onnxscript.optimizer.folded_from"


class CleanGraph:
    """Makes one traced model one file: the same model traced twice serialises to the same bytes.

    - Functions are inlined; Identity nodes, repeated subexpressions, repeated initializers and unused nodes,
      initializers, functions and opset imports go; Constant nodes become initializers.
    - Metadata and doc strings of model, graph, nodes and values go: traces hold paths and line numbers.
    - Nodes are named `MatMul_0`, `MatMul_1`, ... for each operator, their values `v0`, `v1`, ..., constants
      `c0`, `c1`, ..., all in graph order; initializers stand in the order of their first use.

    Graph inputs and outputs keep their names and types, and so does every initializer with a dotted name: a
    module path, hence a parameter or a buffer. A tensor that the exporter folded from one parameter alone (a
    transposed weight) takes that parameter's name where it is free.

    `rewrites` counts every function, node, initializer and note that went and every name that changed.
    """

    name = "clean-graph"

    def __call__(self, model: ir.Model) -> PassResult:
        functions = len(model.functions)
        if functions:
            common.InlinePass()(model)
            # what is left is never called
            model.functions.clear()
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        size = _size(model)
        with _hashable(model.graph):
            common.DeduplicateHashedInitializersPass()(model)
        common.IdentityEliminationPass()(model)
        common.CommonSubexpressionEliminationPass()(model)
        common.RemoveUnusedNodesPass()(model)
        common.RemoveUnusedOpsetsPass()(model)
        gone = functions + size - _size(model)
        # names before notes: the notes say which parameter a folded tensor was
        changes = gone + _name_initializers(model.graph) + _name_nodes(model.graph) + _drop_notes(model)
        return PassResult(model, changes, () if changes else ("the graph is already clean",))


@contextmanager
def _hashable(graph: ir.Graph) -> Iterator[None]:
    """Shows weights that are turned views of torch's as the memory they view, which has a buffer to hash.

    The exporter folds transposes so; copied, they would be most of the model a second time. Of a shape that no tensor
    has, what is viewed is equal to another view alone.
    """
    views: dict[ir.Value, ir.TensorProtocol] = {}
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is None or (array := tensor.numpy()).flags.c_contiguous:
            continue
        views[value] = tensor
        seen = np.ascontiguousarray(array.T)
        value.const_value = ir.tensor(seen.reshape((1,) * _MOST_AXES + seen.shape), dtype=tensor.dtype, name=value.name)
    try:
        yield
    finally:
        for value, tensor in views.items():
            value.const_value = tensor


def _size(model: ir.Model) -> int:
    return sum(1 for _ in model.graph.all_nodes()) + len(model.graph.initializers)


def _name_initializers(graph: ir.Graph) -> int:
    """Put the initializers in the order of their first use and name the constants. Returns the renamed."""
    used = dict.fromkeys(
        value for node in graph.all_nodes() for value in node.inputs if value is not None and value.is_initializer()
    )
    own = [value for value in dict.fromkeys(chain(used, graph.initializers.values())) if value.graph is graph]
    taken = {value.name for value in own if _is_fixed(value)} | _boundary(graph)
    free = _free_names("c", taken)
    names: dict[ir.Value, str] = {}
    for value in own:
        origin = _folded_from(value)
        if _is_fixed(value):
            names[value] = value.name or ""
        elif origin is not None and origin not in taken:
            names[value] = origin
            taken.add(origin)
        else:
            names[value] = next(free)
    changed = sum(value.name != name for value, name in names.items())
    # all out before any goes back in: a new name may be another one's old name
    for value in own:
        graph.initializers.pop(value.name or "")
    for value, name in names.items():
        value.name = name
        graph.initializers[name] = value
    return changed


def _is_fixed(value: ir.Value) -> bool:
    return "." in (value.name or "") or value.is_graph_input() or value.is_graph_output()


def _folded_from(value: ir.Value) -> str | None:
    """The one parameter the exporter made this tensor of, or None."""
    sources = ast.literal_eval(value.metadata_props.get(_FOLDED_FROM, "[]"))
    return sources[0] if len(sources) == 1 and "." in sources[0] else None


def _boundary(graph: ir.Graph) -> set[str | None]:
    """Names that stay: inputs and outputs of the graph, inputs and initializers of its subgraphs."""
    inner = (chain(sub.inputs, sub.initializers.values()) for sub in graph.subgraphs())
    return {value.name for value in chain(graph.inputs, graph.outputs, *inner)}


def _free_names(prefix: str, taken: set[str | None]) -> Iterator[str]:
    return (name for name in (f"{prefix}{number}" for number in count()) if name not in taken)


def _name_nodes(graph: ir.Graph) -> int:
    """Name every node after its operator and every value it makes. Returns how many names changed."""
    free = _free_names("v", _boundary(graph) | set(graph.initializers))
    outputs = set(graph.outputs)
    numbers: Counter[str] = Counter()
    changed = 0
    for node in graph.all_nodes():
        name = f"{node.op_type}_{numbers[node.op_type]}"
        numbers[node.op_type] += 1
        changed += node.name != name
        node.name = name
        for value in node.outputs:
            # an empty name is an optional output that is left out
            if value in outputs or value.name == "":
                continue
            name = next(free)
            changed += value.name != name
            value.name = name
    return changed


def _drop_notes(model: ir.Model) -> int:
    """Clear every metadata entry and doc string. Returns how many there were."""
    holders: list[ir.Model | ir.Graph | ir.Node | ir.Value] = [model]
    for graph in model.graphs():
        holders.extend((graph, *graph.inputs, *graph.initializers.values()))
        for node in graph:
            holders.extend((node, *node.outputs))
    dropped = 0
    for holder in holders:
        dropped += len(holder.metadata_props) + bool(holder.doc_string)
        holder.metadata_props.clear()
        holder.doc_string = None
        tensor = holder.const_value if isinstance(holder, ir.Value) else None
        if isinstance(holder, ir.Value) and tensor is not None and (tensor.metadata_props or tensor.doc_string):
            dropped += 1
            # a tensor read from a file cannot be edited
            holder.const_value = ir.tensor(tensor.numpy(), dtype=tensor.dtype, name=holder.name)
    return dropped
