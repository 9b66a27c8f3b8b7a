#!/usr/bin/env bash
# transformers: its ONNX exporter's fusions for a CPU and its static quantizer, each by itself fine, raise together.
#
# Seen:      2026-11-28, transformers 5.23.0 and 5.24.0, torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0
# Input:     a BertModel of one layer, exported by OnnxExporter with every pair of ort_fusions None and "cpu" and of
#            quantizer None, OnnxRuntimeQuantizer() (static, its default) and its dynamic configuration.
# Expected:  six graphs.
# Observed:  "cpu" with the static one raises onnx's InferenceError. The fusions undo the attention that they made and
#            write its scale as an initializer of one axis, since numpy.ascontiguousarray gives an array without axes
#            one, but give the value of that name the shape of the array before: no axes. ONNX's shape inference, which
#            onnxruntime's quantize_static starts with, refuses the two. With float32's fused graph alone its strict
#            form does too. Fixed or dynamic shapes, and scales by channel, change nothing.
# stcompile: does not use this exporter. The benchmark of peers takes its dynamic quantization.
# Output:
#   transformers 5.23.0
#   torch 2.13.0+cpu
#   onnx 1.23.2
#   onnxscript 0.7.2
#   onnxruntime 1.32.0
#   fusions None quantizer none: exported
#   fusions None quantizer static: exported
#   fusions None quantizer dynamic: exported
#   fusions cpu quantizer none: exported
#   fusions cpu quantizer static: InferenceError [ShapeInferenceError] Inferred shape and existing shape differ in rank: (1) vs (0)
#   fusions cpu quantizer dynamic: exported
#   of the fused graph: unfused_attention_0_scale has the axes [1], its value []
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" \
    transformers==5.23.0 torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import contextlib
import io
import sys
from importlib.metadata import version

import onnx_ir
import torch
from transformers import BertConfig, BertModel
from transformers.exporters import OnnxConfig, OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer
from transformers.exporters.exporter_onnx import OnnxExporter

for name in ("transformers", "torch", "onnx", "onnxscript", "onnxruntime"):
    print(name, version(name))
torch.manual_seed(0)
sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
network = BertModel(BertConfig(vocab_size=100, **sizes)).eval()
ids = torch.arange(5, 19).reshape(2, 7)
inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
quantizers = {
    "none": None,
    "static": OnnxRuntimeQuantizer(calibration_dataset=[inputs]),
    "dynamic": OnnxRuntimeQuantizer(OnnxRuntimeDynamicConfig()),
}
said, fused = {}, None
for fusions in (None, "cpu"):
    for name, quantizer in quantizers.items():
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                config = OnnxConfig(ort_fusions=fusions, quantizer=quantizer)
                exported = OnnxExporter().export(network, dict(inputs), config)
            found = "exported"
            fused = exported.program if (fusions, name) == ("cpu", "none") else fused
        except Exception as error:
            found = f"{type(error).__name__} {error}"
        said[fusions, name] = found
        print(f"fusions {fusions} quantizer {name}: {found}")
graph = onnx_ir.to_proto(fused).graph
axes = {value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in graph.value_info}
odd = [(held.name, list(held.dims)) for held in graph.initializer if axes.get(held.name, held.dims) != held.dims]
for name, dims in odd:
    print(f"of the fused graph: {name} has the axes {dims}, its value {axes[name]}")
raised = said.pop(("cpu", "static"))
as_described = "differ in rank: (1) vs (0)" in raised and set(said.values()) == {"exported"} and len(odd) == 1
sys.exit(0 if as_described else "CHANGED: not as described in this script")
PYTHON
