"""One linear layer whose output is cut into parts -> one linear layer for each part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from stcompile.compiler.passes.base import PassResult
from stcompile.compiler.passes.constants import constant_named, integers
from stcompile.compiler.passes.graph import (
    bias_add,
    constant,
    dims,
    finish,
    is_op,
    only_user,
    operand,
    slice_of,
    weight_of,
)

_WEIGHT = ".weight"


@dataclass(frozen=True)
class _Part:
    """The columns `[start, stop)`, and the value that they become, split into heads of `(number, size)` or not."""

    value: ir.Value
    start: int
    stop: int
    heads: tuple[int, int] | None = None


class SplitProjections:
    """Cuts a weight instead of the product, so that whoever reads a part finds the linear layer that makes it.

    Known are Split and Slice along the last axis, as gated feed-forward networks have them, and the Reshape to
    (batch, sequence, parts, heads, size) whose parts are taken one by one, as ModernBERT takes queries, keys and
    values. Each number is made by the same sum as before.
    """

    name = "split-projections"

    def __call__(self, model: ir.Model) -> PassResult:
        rewrites = sum(_split(model.graph, node) for node in list(model.graph) if is_op(node, "MatMul"))
        if rewrites:
            model.graph.sort()
        return finish(model, rewrites, (), "no linear layer's output is cut into parts")


def _split(graph: ir.Graph, matmul: ir.Node) -> bool:
    array = constant(operand(matmul, 1))
    if array is None or array.ndim != 2:
        return False
    end, bias = bias_add(matmul, array.shape[1])
    made = end.outputs[0]
    parts = [] if made.is_graph_output() else _parts(made, array.shape[1])
    if not parts:
        return False
    weight = weight_of(matmul)
    for part in parts:
        columns = slice(part.start, part.stop)
        name = _name(str(weight.name), part)
        # A view: copied, a network's projections would be in memory twice.
        cut = ir.node("MatMul", [matmul.inputs[0], constant_named(graph, name, array[:, columns])])
        graph.insert_before(matmul, cut)
        last = cut
        if bias is not None:
            added = constant(bias)
            assert added is not None  # bias_add finds constants only
            row = constant_named(graph, _name(str(bias.name), part), added[columns])
            last = ir.node("Add", [cut.outputs[0], row])
            graph.insert_before(matmul, last)
        shape = dims(made)
        for node in (cut, last):
            node.outputs[0].type = made.type
            node.outputs[0].shape = None if shape is None else ir.Shape((*shape[:-1], part.stop - part.start))
        if part.heads is not None:
            by_heads = integers(graph, f"split_{part.heads[0]}x{part.heads[1]}", [0, 0, *part.heads])
            last = ir.node("Reshape", [last.outputs[0], by_heads])
            last.outputs[0].type, last.outputs[0].shape = part.value.type, part.value.shape
            graph.insert_before(matmul, last)
        part.value.replace_all_uses_with(last.outputs[0])
    return True


def _name(whole: str, part: _Part) -> str:
    """By its columns: a weight that several products share may be cut in several ways."""
    end = _WEIGHT if whole.endswith(_WEIGHT) else ""
    return f"{whole.removesuffix(_WEIGHT)}.{part.start}_{part.stop}{end}"


def _parts(made: ir.Value, width: int) -> list[_Part]:
    users = [use.node for use in made.uses()]
    user = only_user(made)
    if user is not None and is_op(user, "Split"):
        return _of_split(user, width)
    if user is not None and is_op(user, "Reshape"):
        return _of_heads(user.outputs[0])
    cuts = [slice_of(node) for node in users]
    known = [(node, cut) for node, cut in zip(users, cuts, strict=True) if cut is not None and cut[0] == -1]
    if len(known) < len(users):
        return []
    return [_Part(node.outputs[0], start, min(stop, width)) for node, (_, start, stop) in known]


def _of_split(node: ir.Node, width: int) -> list[_Part]:
    rank = len(dims(node.outputs[0]) or ())
    widths = [(dims(value) or (None,))[-1] for value in node.outputs]
    if node.attributes.get_int("axis", 0) not in (-1, rank - 1) or any(
        value.is_graph_output() for value in node.outputs
    ):
        return []
    known = [part for part in widths if isinstance(part, int)]
    if len(known) < len(widths) or sum(known) != width:
        return []
    ends = np.cumsum(known).tolist()
    return [
        _Part(value, end - own, end) for value, own, end in zip(node.outputs, known, ends, strict=True) if value.uses()
    ]


def _of_heads(split: ir.Value) -> list[_Part]:
    """The parts of (batch, sequence, parts, heads, size)."""
    shape = dims(split) or ()
    sizes = [dim for dim in shape[2:] if isinstance(dim, int)]
    if len(shape) != 5 or len(sizes) != 3 or split.is_graph_output():
        return []
    _, heads, size = sizes
    parts = []
    for node in (use.node for use in split.uses()):
        cut, squeeze = slice_of(node), only_user(node.outputs[0])
        axes = None if squeeze is None or not is_op(squeeze, "Squeeze") else constant(operand(squeeze, 1))
        if (
            cut is None
            or cut[0] != -3
            or cut[2] - cut[1] != 1
            or axes is None
            or axes.reshape(-1).tolist() not in ([-3], [2])
        ):
            return []
        assert squeeze is not None
        parts.append(_Part(squeeze.outputs[0], cut[1] * heads * size, cut[2] * heads * size, (heads, size)))
    return parts
