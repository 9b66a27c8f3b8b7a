"""bfloat16, encoder layers fused: weights and activations rounded to it, sums in float32."""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from stcompile.manifest import QuantizationSummary
from stcompile.passes.encoder_layers import Linear
from stcompile.quantize.fused_int8 import checked_layers, unfused
from stcompile.quantize.fused_layers import Packed, biases, panels, write_layer
from stcompile.quantize.gemm import split_token_gemms
from stcompile.quantize.job import QuantizationJob
from stcompile.quantize.tables import halve_tables

_WORD = 2
_LINEARS = 6  # of a layer


def convert_to_bfloat16(model: ir.Model, job: QuantizationJob) -> QuantizationSummary:
    """Rewrites a float32 graph, in place.

    Raises:
        UnsupportedError: no encoder layer can be fused.
    """
    split_token_gemms(model)
    layers, refusals = checked_layers(model, "openvino-bf16 or onnx-fp32")
    for layer in layers:
        write_layer(model, layer, "EncoderLayerBfloat16", _packed)
    RemoveUnusedNodesPass()(model)
    tables = halve_tables(model)
    return QuantizationSummary("bf16-fused", _LINEARS * len(layers), tables, unfused(model, refusals))


def _packed(name: str, linears: Sequence[Linear], factors: NDArray[np.float32]) -> Packed:
    weight = np.concatenate([linear.weight for linear in linears], axis=1) * factors
    rounded = panels(weight.astype(ml_dtypes.bfloat16), _WORD)
    return Packed({"panels": ir.tensor(rounded), "bias": biases(linears, factors)}, {})
