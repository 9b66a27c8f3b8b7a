"""Precision recipes: a float32 graph to the precision of a target, one recipe a file."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from stcompile.manifest import QuantizationSummary
from stcompile.quantize.dynamic import quantize_dynamic
from stcompile.quantize.half import convert_to_half

Recipe = Callable[[ir.Model], QuantizationSummary | None]

# Recipe name (Target.recipe) to what rewrites the graph in place.
RECIPES: dict[str, Recipe] = {
    "float32": lambda model: None,
    "float16": convert_to_half,
    "dynamic": quantize_dynamic,
}

__all__ = ["RECIPES", "Recipe", "convert_to_half", "quantize_dynamic"]
