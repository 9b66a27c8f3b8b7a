"""Precision recipes: a float32 graph to the precision of a target, one recipe a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import onnx_ir as ir

from stcompile.artifact.report import QuantizationSummary
from stcompile.compiler.quantize.calibrated import (
    quantize_int8,
    quantize_int8_openvino,
    quantize_weights_4,
    quantize_weights_8,
    quantize_weights_openvino,
)
from stcompile.compiler.quantize.dynamic import quantize_dynamic
from stcompile.compiler.quantize.fused_float import convert_to_bfloat16, fuse_float32
from stcompile.compiler.quantize.fused_int8 import quantize_int8_fused
from stcompile.compiler.quantize.half import convert_to_half
from stcompile.compiler.quantize.job import QuantizationJob

Recipe = Callable[[ir.Model, QuantizationJob], QuantizationSummary | None]


def _float32(model: ir.Model, job: QuantizationJob) -> None:
    """As it is."""


# Recipe name (Target.recipe) to what rewrites the graph in place.
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "float32": _float32,
        "float16": convert_to_half,
        "dynamic": quantize_dynamic,
        "int8": quantize_int8,
        "int8-fused": quantize_int8_fused,
        "bf16-fused": convert_to_bfloat16,
        "fp32-fused": fuse_float32,
        "int8-weights": quantize_weights_8,
        "int4-weights": quantize_weights_4,
        "int8-openvino": quantize_int8_openvino,
        "int8-weights-openvino": quantize_weights_openvino,
    }
)

__all__ = ["RECIPES", "QuantizationJob", "Recipe"]
