"""Dynamic int8: weights quantized here per channel, activations at run time per batch.

What ONNX Runtime would fuse at load at its extended level, written out so that the engine has nothing left to rewrite.
Activations are uint8 with one scale per batch, so a text's vector depends on its batch mates.
"""

from __future__ import annotations

import onnx_ir as ir

from stcompile.artifact.report import QuantizationSummary
from stcompile.compiler.quantize.candidates import PER_BATCH, Candidate
from stcompile.compiler.quantize.integer_graph import write_integer_layers
from stcompile.compiler.quantize.job import QuantizationJob
from stcompile.compiler.quantize.layers import find_layers, split_token_gemms
from stcompile.compiler.quantize.plan import planned, summarized
from stcompile.compiler.quantize.tables import quantize_tables


def quantize_dynamic(model: ir.Model, job: QuantizationJob) -> QuantizationSummary:
    """Rewrites a float32 graph to dynamic int8, in place. It needs no calibration."""
    split_token_gemms(model)
    plans = [planned(layer, Candidate(PER_BATCH)) for layer in find_layers(model.graph)]
    write_integer_layers(model, plans)
    return summarized("dynamic", model, plans, quantize_tables(model), route=job.route)
