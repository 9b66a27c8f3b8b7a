"""The opset that the standard's own fused operators need, and whether a model may move to it."""

from __future__ import annotations

import onnx_ir as ir

_NEEDED = 23
_OLDEST = 20


def raise_opset(model: ir.Model) -> None:
    """Moves a model without an `obstacle` to opset 23: Attention, RMSNormalization, RotaryEmbedding."""
    model.graph.opset_imports[""] = _NEEDED


def obstacle(model: ir.Model) -> str | None:
    """Why the model cannot move to opset 23, or None.

    From opset 20 on ONNX's own version converter has one operator that does not mean the same at 23,
    GroupNormalization. Functions carry opsets of their own: inline them first.
    """
    opset = model.graph.opset_imports.get("", 0)
    if not _OLDEST <= opset <= _NEEDED:
        return f"the graph is at opset {opset}: only {_OLDEST} to {_NEEDED} are known to move safely"
    if model.functions:
        return "the model has functions, whose opsets are their own"
    changed = any(node.domain == "" and node.op_type == "GroupNormalization" for node in model.graph.all_nodes())
    if changed and opset < 21:
        return f"GroupNormalization changed its meaning between opset {opset} and {_NEEDED}"
    return None
