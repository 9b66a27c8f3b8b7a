"""Projections of one input -> one wider projection, split afterwards."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx_ir as ir

from stcompile.compiler.passes.base import PassResult
from stcompile.compiler.passes.graph import NoMatch, bias_add, constant, dims, finish, is_op, operand, weight_of

_Values = tuple[ir.Value, ...]


class PackQKV:
    """Rewrites two or three MatMuls of one input by constant weights to one MatMul, one Add and one Split.

    The input is (..., hidden), each weight a constant (hidden, n_i), each bias a constant (n_i,); either all
    have a bias or none has. Weights that several groups share in the same order, as in models that share
    layers, are packed once; weights that anything else reads are refused, as packing would copy them.
    The columns of a matrix product do not depend on each other, so the numbers are the same up to the order
    in which a kernel adds.
    """

    name = "pack-qkv"

    def __call__(self, model: ir.Model) -> PassResult:
        graph = model.graph
        packs: dict[_Values, list[list[ir.Node]]] = defaultdict(list)
        for group in _groups(graph):
            packs[tuple(map(weight_of, group))].append(group)
        rewrites = 0
        refusals: list[str] = []
        for weights, groups in packs.items():
            try:
                _check_weights(weights, groups)
                ends = [_ends(group) for group in groups]
            except NoMatch as reason:
                refusals.append(str(reason))
                continue
            packed: dict[_Values, ir.Value] = {}
            for group, (old, biases) in zip(groups, ends, strict=True):
                _merge_projections(graph, group, old, biases, packed)
            rewrites += len(groups)
        return finish(model, rewrites, refusals, "no two projections share an input")


def _groups(graph: ir.Graph) -> list[list[ir.Node]]:
    """The MatMuls by a constant matrix that share their input with another such, in graph order."""
    by_input: dict[ir.Value, list[ir.Node]] = defaultdict(list)
    for node in graph:
        x = operand(node, 0)
        if is_op(node, "MatMul") and x is not None:
            weight = constant(operand(node, 1))
            if weight is not None and weight.ndim == 2:
                by_input[x].append(node)
    return [group for group in by_input.values() if len(group) > 1]


def _check_weights(weights: _Values, groups: list[list[ir.Node]]) -> None:
    if len(weights) > 3:
        raise NoMatch("more than three projections share an input")
    members = {node for group in groups for node in group}
    if any(use.node not in members for weight in weights for use in weight.uses()):
        raise NoMatch("a projection's weights are read by another node too: packing would copy them")


def _ends(group: list[ir.Node]) -> tuple[list[ir.Node], _Values]:
    """The Add of a constant bias behind each MatMul, and the biases; themselves and nothing where no MatMul has one."""
    ends, biases = zip(*(bias_add(node, _width(node)) for node in group), strict=True)
    found = tuple(bias for bias in biases if bias is not None)
    if found and len(found) != len(group):
        raise NoMatch("some of the projections that share an input have a bias, others have none")
    return list(ends), found


def _width(matmul: ir.Node) -> int:
    weight = constant(weight_of(matmul))
    assert weight is not None  # _groups took only constant ones
    return int(weight.shape[1])


def _merge_projections(
    graph: ir.Graph, group: list[ir.Node], old: list[ir.Node], biases: _Values, packed: dict[_Values, ir.Value]
) -> None:
    widths = [_width(node) for node in group]
    x = group[0].inputs[0]
    assert x is not None  # the groups are keyed by it
    product = ir.node("MatMul", [x, _pack(graph, tuple(map(weight_of, group)), packed)])
    nodes = [product]
    if biases:
        nodes.append(ir.node("Add", [product.outputs[0], _pack(graph, biases, packed)]))
    for node in nodes:
        node.outputs[0].type = x.type
        node.outputs[0].shape = None if x.shape is None else ir.Shape([*(dims(x) or ())[:-1], sum(widths)])
    sizes = ir.node("Constant", [], attributes={"value_ints": widths})
    split = ir.node("Split", [nodes[-1].outputs[0], sizes.outputs[0]], attributes={"axis": -1}, num_outputs=len(group))
    graph.insert_before(group[0], [*nodes, sizes, split])
    old_values = [node.outputs[0] for node in old]
    ir.convenience.replace_nodes_and_values(graph, split, old, [], old_values, split.outputs)


def _pack(graph: ir.Graph, parts: _Values, packed: dict[_Values, ir.Value]) -> ir.Value:
    """The initializer that holds `parts` side by side along their last axis."""
    if parts not in packed:
        arrays = [constant(part) for part in parts]
        joined = np.concatenate([array for array in arrays if array is not None], axis=-1)
        value = ir.val(f"{parts[0].name}.packed", const_value=ir.tensor(joined))
        graph.register_initializer(value)
        packed[parts] = value
    return packed[parts]
