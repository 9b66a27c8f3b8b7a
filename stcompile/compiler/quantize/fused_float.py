"""Encoder layers fused without integers: everything in float32, or weights and activations rounded to bfloat16."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from stcompile.artifact.report import QuantizationSummary
from stcompile.compiler.passes.encoder_layers import Linear
from stcompile.compiler.quantize.fused_layers import Pack, Packed, biases, checked_layers, panels, unfused, write_layer
from stcompile.compiler.quantize.job import QuantizationJob
from stcompile.compiler.quantize.layers import split_token_gemms
from stcompile.compiler.quantize.tables import halve_tables

_MATMULS = 6  # of a layer


def fuse_float32(model: ir.Model, job: QuantizationJob) -> QuantizationSummary:
    """Rewrites a float32 graph, in place; no number of it changes its type.

    Raises:
        UnsupportedError: no encoder layer can be fused.
    """
    return _fused(model, "fp32-fused", "EncoderLayerFloat32", _as_they_are, "onnx-fp32")


def convert_to_bfloat16(model: ir.Model, job: QuantizationJob) -> QuantizationSummary:
    """Rewrites a float32 graph, in place: layers in bfloat16, tables of embeddings stored in float16.

    Raises:
        UnsupportedError: no encoder layer can be fused.
    """
    summary = _fused(model, "bf16-fused", "EncoderLayerBfloat16", _in_bfloat16, "openvino-bf16 or onnx-fp32")
    return dataclasses.replace(summary, embeddings=halve_tables(model))


def _fused(model: ir.Model, scheme: str, op_type: str, pack: Pack, instead: str) -> QuantizationSummary:
    split_token_gemms(model)
    layers, refusals = checked_layers(model, instead)
    for layer in layers:
        write_layer(model, layer, op_type, pack)
    RemoveUnusedNodesPass()(model)
    return QuantizationSummary(scheme, _MATMULS * len(layers), 0, unfused(model, refusals))


def _as_they_are(name: str, linears: Sequence[Linear], factors: NDArray[np.float32]) -> Packed:
    return Packed({"panels": panels(_side_by_side(linears, factors), 1), "bias": biases(linears, factors)}, {})


def _in_bfloat16(name: str, linears: Sequence[Linear], factors: NDArray[np.float32]) -> Packed:
    rounded = panels(_side_by_side(linears, factors).astype(ml_dtypes.bfloat16), 2)
    return Packed({"panels": ir.tensor(rounded), "bias": biases(linears, factors)}, {})


def _side_by_side(linears: Sequence[Linear], factors: NDArray[np.float32]) -> NDArray[np.float32]:
    joined: NDArray[np.float32] = np.concatenate([linear.weight for linear in linears], axis=1) * factors
    return joined
