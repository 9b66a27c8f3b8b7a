"""Encoder layers without integers: everything in float32, or weights and activations rounded to bfloat16."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from stcompile.artifact.report import QuantizationSummary
from stcompile.compiler.passes.encoder_layers import EncoderLayer, Linear
from stcompile.compiler.quantize.fused_layers import (
    Pack,
    Packed,
    biases,
    fusable_layers,
    summary,
    unfused,
    write_layers,
)
from stcompile.compiler.quantize.job import QuantizationJob
from stcompile.compiler.quantize.layer_bodies import BFLOAT16, FLOAT32
from stcompile.compiler.quantize.layers import split_token_gemms
from stcompile.compiler.quantize.tables import halve_tables
from stcompile.errors import UnsupportedError


def keep_float32(model: ir.Model, job: QuantizationJob) -> None:
    """No number changes its type; encoder layers become operators, in place, where the job says so."""
    if job.fuses:
        _fused(model, job, FLOAT32, _as_they_are)
    elif job.unfused:
        job.records.append(unfused(job))


def convert_to_bfloat16(model: ir.Model, job: QuantizationJob) -> QuantizationSummary:
    """Rewrites a float32 graph, in place: layers in bfloat16, tables of embeddings stored in float16.

    Raises:
        UnsupportedError: there is no encoder layer that an operator computes.
    """
    instead = "use openvino-bf16 or onnx-fp32"
    if not job.fuses:
        raise UnsupportedError("this model", f"only the package's own operators compute in bfloat16: {instead}")
    layers, refusals = _fused(model, job, BFLOAT16, _in_bfloat16)
    if not layers:
        raise UnsupportedError("this model", *(f"no encoder layer can be fused ({why}): {instead}" for why in refusals))
    matmuls = sum(len(linears) for layer in layers for linears in layer.linears)
    return QuantizationSummary("bfloat16", matmuls, halve_tables(model))


def _fused(
    model: ir.Model, job: QuantizationJob, op_type: str, pack: Pack
) -> tuple[list[EncoderLayer], tuple[str, ...]]:
    split_token_gemms(model)
    layers, refusals = fusable_layers(model, job.longest)
    write_layers(model, layers, op_type, [pack] * len(layers))
    job.records.append(summary(model, len(layers), refusals))
    return layers, refusals


def _as_they_are(linears: Sequence[Linear], factors: NDArray[np.float32]) -> Packed:
    weights = partial(_side_by_side, linears, factors)
    return Packed(weights, ir.DataType.FLOAT, 1, {"bias": biases(linears, factors)})


def _in_bfloat16(linears: Sequence[Linear], factors: NDArray[np.float32]) -> Packed:
    def weights() -> NDArray[Any]:
        return _side_by_side(linears, factors).astype(ml_dtypes.bfloat16)

    return Packed(weights, ir.DataType.BFLOAT16, 2, {"bias": biases(linears, factors)})


def _side_by_side(linears: Sequence[Linear], factors: NDArray[np.float32]) -> NDArray[np.float32]:
    joined: NDArray[np.float32] = np.concatenate([linear.weight for linear in linears], axis=1) * factors
    return joined
