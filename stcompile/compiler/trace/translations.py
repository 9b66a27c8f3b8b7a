"""Operators that onnxscript writes otherwise than torch computes them, written as torch does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset20 as op


def _log_sigmoid(value: Any) -> Any:
    """`-softplus(-x)`. As `Log(Sigmoid(x))` it is -inf below -18, where onnxruntime's Sigmoid is zero.

    So it is written since microsoft/onnxscript#281.
    """
    return op.Neg(op.Softplus(op.Neg(value)))


# For `torch.onnx.export(custom_translation_table=)`.
TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.aten.log_sigmoid.default: _log_sigmoid}
