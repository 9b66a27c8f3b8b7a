"""Precision recipes, by name: each takes a float32 graph to the precision of a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import onnx_ir as ir

from stcompile.artifact.report import QuantizationSummary
from stcompile.compiler.quantize.calibrated import Calibrated
from stcompile.compiler.quantize.candidates import INT8, INT8_OPERATORS, WEIGHTS_4, WEIGHTS_8, WEIGHTS_8_COLUMNS
from stcompile.compiler.quantize.dynamic import quantize_dynamic
from stcompile.compiler.quantize.fused_float import convert_to_bfloat16, keep_float32
from stcompile.compiler.quantize.half import (
    BFLOAT16,
    FLOAT16,
    ShortFloat,
    convert_to_bfloat16_for_gpus,
    convert_to_half,
)
from stcompile.compiler.quantize.integer_graph import write_integer_layers
from stcompile.compiler.quantize.job import QuantizationJob
from stcompile.compiler.quantize.nncf import compress_by_nncf, quantize_by_nncf
from stcompile.compiler.quantize.qdq_graph import write_qdq_layers

Recipe = Callable[[ir.Model, QuantizationJob], QuantizationSummary | None]


def keep_as_given(model: ir.Model, job: QuantizationJob) -> None:
    """Of a graph that is adopted nothing is rewritten."""


# What another recipe takes the place of for provider cuda.
FOR_GPUS: Mapping[str, str] = MappingProxyType({"bfloat16": "bfloat16-gpu"})

# What the graph of a recipe computes in where no CPU has kernels of it, and parity needs another judge.
SHORT_FLOATS: Mapping[str, ShortFloat] = MappingProxyType({"float16": FLOAT16, FOR_GPUS["bfloat16"]: BFLOAT16})

# Recipe name (Target.recipe, or what FOR_GPUS has for it) to what rewrites the graph in place.
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "float32": keep_float32,
        "adopted": keep_as_given,
        "float16": convert_to_half,
        "dynamic": quantize_dynamic,
        "bfloat16": convert_to_bfloat16,
        FOR_GPUS["bfloat16"]: convert_to_bfloat16_for_gpus,
        "int8": Calibrated("int8", INT8, write_integer_layers, INT8_OPERATORS),
        "int8-weights": Calibrated("int8-weights", WEIGHTS_8, write_integer_layers),
        "int4-weights": Calibrated("int4-weights", WEIGHTS_4, write_integer_layers),
        "int8-openvino": Calibrated("int8", INT8, write_qdq_layers),
        "int8-weights-openvino": Calibrated("int8-weights", WEIGHTS_8_COLUMNS, write_qdq_layers),
        "int8-nncf": quantize_by_nncf,
        "int4-nncf": compress_by_nncf,
    }
)

__all__ = ["FOR_GPUS", "RECIPES", "SHORT_FLOATS", "QuantizationJob", "Recipe"]
