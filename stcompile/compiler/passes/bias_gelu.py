"""Add of a bias + exact Gelu -> com.microsoft.BiasGelu."""

from __future__ import annotations

import onnx_ir as ir

from stcompile.compiler.passes.base import PassResult
from stcompile.compiler.passes.graph import (
    MICROSOFT,
    NoMatch,
    constant,
    dims,
    is_op,
    only_user,
    operand,
    rewritten,
    swap,
)


class FuseBiasGelu:
    """Rewrites Gelu(x + bias) to `com.microsoft::BiasGelu` (version 1).

    `x` has any rank with a last axis of known size N, `bias` is a constant of shape (N,). Only the exact
    Gelu, x/2 (1 + erf(x / sqrt 2)) (Hendrycks and Gimpel, 2016), is rewritten: BiasGelu has no other.
    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
    """

    name = "fuse-bias-gelu"

    def __call__(self, model: ir.Model) -> PassResult:
        return rewritten(model, "Gelu", _fuse, "no Gelu occurs")


def _fuse(graph: ir.Graph, gelu: ir.Node) -> None:
    swap(graph, gelu, ir.node("BiasGelu", _biased(gelu), domain=MICROSOFT))
    graph.opset_imports.setdefault(MICROSOFT, 1)


def _biased(gelu: ir.Node) -> list[ir.Value | None]:
    """The inputs of the BiasGelu that replaces `gelu`."""
    if gelu.attributes.get_string("approximate", "none") != "none":
        raise NoMatch("the Gelu is the tanh approximation")
    total = operand(gelu, 0)
    add = None if total is None else total.producer()
    if total is None or add is None or not is_op(add, "Add"):
        raise NoMatch("the Gelu has no bias before it")
    if only_user(total) is None:
        raise NoMatch("the biased input of the Gelu is used elsewhere too")
    for x, bias in (tuple(add.inputs), tuple(reversed(add.inputs))):
        tensor = constant(bias)
        shape = None if x is None else dims(x)
        if tensor is not None and shape and tensor.shape == shape[-1:]:
            return [x, bias]
    raise NoMatch("the bias of the Gelu is no constant of one axis as long as the input's last")
