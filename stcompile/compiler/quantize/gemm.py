"""Linear layers over flattened tokens, which torch's exporter writes as Gemm, as the MatMul that recipes know."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from stcompile.compiler.passes.constants import added, constant_named
from stcompile.compiler.passes.graph import constant, is_op, operand, swap


def split_token_gemms(model: ir.Model) -> int:
    """Rewrites each Gemm that reads a Reshape, in place. Returns how many.

    A Gemm over anything else is a Dense on the pooled vector: it runs once a text, and stays.
    """
    return sum(_made_matmul(model.graph, node) for node in list(model.graph) if is_op(node, "Gemm"))


def _made_matmul(graph: ir.Graph, node: ir.Node) -> bool:
    data, weight, bias = node.inputs[0], node.inputs[1], operand(node, 2)
    array = constant(weight)
    reshape = None if data is None else data.producer()
    if data is None or weight is None or array is None or reshape is None or not is_op(reshape, "Reshape"):
        return False
    flattened = reshape.inputs[0]
    if flattened is not None and flattened.shape is not None and len(flattened.shape) < 3:
        # Not tokens: the counts of a bag of words, for one
        return False
    if _attribute(node, "transA", 0) or _attribute(node, "alpha", 1) != 1 or _attribute(node, "beta", 1) != 1:
        return False
    if _attribute(node, "transB", 0):
        turned = np.ascontiguousarray(array.T)
        weight = constant_named(graph, f"{weight.name}_transposed", turned)
    label = str(node.name)
    if bias is None:
        swap(graph, node, ir.node("MatMul", [data, weight], name=f"{label}_matmul"))
        return True
    product = added(graph, node, "MatMul", [data, weight], f"{label}_matmul")
    swap(graph, node, ir.node("Add", [product, bias], name=f"{label}_bias"))
    return True


def _attribute(node: ir.Node, name: str, default: float) -> float:
    found = node.attributes.get(name)
    if found is None:
        return default
    return found.as_int() if found.type == ir.AttributeType.INT else found.as_float()
