"""Residual Add (+ bias Add) + LayerNormalization -> com.microsoft.SkipLayerNormalization."""

from __future__ import annotations

import onnx_ir as ir

from stcompile.compiler.passes.base import PassResult
from stcompile.compiler.passes.graph import MICROSOFT, NoMatch, constant, dims, is_op, only_user, operand, rewritten

_EPSILON = 1e-5  # the operator's own default, for a LayerNormalization that leaves it out
_SUM = 3  # the output that holds input + skip + bias


class FuseSkipLayerNorm:
    """Rewrites LayerNormalization(x + skip [+ bias]) to `com.microsoft::SkipLayerNormalization` (version 1).

    `x` and `skip` are (batch, length, hidden) of one and the same annotated shape; `bias`, `gamma` and the
    optional `beta` are constants of shape (hidden,). A sum that is read elsewhere too, as in pre-norm
    layers, is taken from the operator's fourth output. The normalization is over the last axis (Ba et al.,
    2016).
    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
    """

    name = "fuse-skip-layer-norm"

    def __call__(self, model: ir.Model) -> PassResult:
        return rewritten(model, "LayerNormalization", _fuse, "no LayerNormalization occurs")


def _match(norm: ir.Node) -> tuple[ir.Node, list[ir.Value | None]]:
    """The Add before a norm, and the inputs of the operator that replaces both."""
    total, gamma, beta = operand(norm, 0), operand(norm, 1), operand(norm, 2)
    add = None if total is None else total.producer()
    if total is None or add is None or not is_op(add, "Add"):
        raise NoMatch("the LayerNormalization has no sum before it")
    shape = dims(total)
    if shape is None or len(shape) != 3 or None in shape:
        raise NoMatch("the sum before the LayerNormalization is not known to be (batch, length, hidden)")
    if norm.attributes.get_int("axis", -1) not in (-1, 2):
        raise NoMatch("the LayerNormalization is over more than the last axis")
    if any(output.uses() or output.is_graph_output() for output in norm.outputs[1:]):
        raise NoMatch("the mean or the deviation of the LayerNormalization is used")
    if not _is_row(gamma, shape[2]) or not (beta is None or _is_row(beta, shape[2])):
        raise NoMatch("the weights of the LayerNormalization are not constants of the hidden size")
    if total.is_graph_output():
        raise NoMatch("the sum before the LayerNormalization is an output of the graph")
    x, skip = add.inputs
    if x is None or skip is None or not dims(x) == dims(skip) == shape:
        raise NoMatch("the two parts of the sum before the LayerNormalization are not of one shape")
    for biased, other in ((x, skip), (skip, x)):
        inner = biased.producer()
        if inner is not None and is_op(inner, "Add") and only_user(biased) is not None:
            for plain, bias in (tuple(inner.inputs), tuple(reversed(inner.inputs))):
                if plain is not None and _is_row(bias, shape[2]) and dims(plain) == shape:
                    return add, [plain, other, gamma, beta, bias]
    return add, [x, skip, gamma, *([] if beta is None else [beta])]


def _is_row(value: ir.Value | None, size: object) -> bool:
    tensor = constant(value)
    return tensor is not None and tensor.shape == (size,)


def _fuse(graph: ir.Graph, norm: ir.Node) -> None:
    add, inputs = _match(norm)
    total = add.outputs[0]
    shared = only_user(total) is None
    fused = ir.node(
        "SkipLayerNormalization",
        inputs,
        attributes={"epsilon": norm.attributes.get_float("epsilon", _EPSILON)},
        domain=MICROSOFT,
        num_outputs=_SUM + 1 if shared else 1,
    )
    # in the sum's place, not the norm's: other readers of the sum may stand between the two
    graph.insert_before(add, fused)
    old, new = [norm.outputs[0]], [fused.outputs[0]]
    if shared:
        for unused in fused.outputs[1:_SUM]:
            unused.name = ""
        old.append(total)
        new.append(fused.outputs[_SUM])
    ir.convenience.replace_nodes_and_values(graph, fused, [norm, add], [], old, new)
    graph.opset_imports.setdefault(MICROSOFT, 1)
