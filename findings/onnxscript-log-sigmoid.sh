#!/usr/bin/env bash
# onnxscript, onnxruntime: torch's logsigmoid becomes Log(Sigmoid(x)), which is -inf from -18 down.
#
# Seen:      2026-11-28, torch 2.13.0, onnxscript 0.7.2, onnxruntime 1.32.0
# Input:     torch.nn.LogSigmoid, exported with torch.onnx.export(dynamo=True), run at 0, -10, -20, -100.
# Expected:  about x itself for large negative x, as torch computes it: -20 at -20.
# Observed:  the graph is Sigmoid and Log. onnxruntime's Sigmoid is zero where float32 still has 2e-9, so the logarithm
#            is -inf from about -18 down (by float32 alone it would be from -104). Nothing is said at export.
# stcompile: gives the exporter a translation of its own, -Softplus(-x) (compiler/trace/translations.py).
# Output:
#   torch 2.13.0+cpu
#   onnxscript 0.7.2
#   onnxruntime 1.32.0
#   operators: Log Sigmoid
#   x 0 torch -0.6931 onnxruntime -0.6931
#   x -10 torch -10.0000 onnxruntime -10.0002
#   x -20 torch -20.0000 onnxruntime -inf
#   x -100 torch -100.0000 onnxruntime -inf
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" \
    torch==2.13.0 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import contextlib
import io
import math
import sys
from importlib.metadata import version

import onnxruntime
import torch

for name in ("torch", "onnxscript", "onnxruntime"):
    print(name, version(name))
module, values = torch.nn.LogSigmoid().eval(), torch.tensor([[0.0, -10.0, -20.0, -100.0]])
with contextlib.redirect_stdout(io.StringIO()):
    program = torch.onnx.export(module, (values,), dynamo=True, verbose=False)
operators = " ".join(sorted(node.op_type for node in program.model.graph))
print("operators:", operators)
session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
(found,) = session.run(None, {session.get_inputs()[0].name: values.numpy()})
for x, right, wrong in zip(values[0].tolist(), module(values)[0].tolist(), found[0].tolist()):
    print(f"x {x:.0f} torch {right:.4f} onnxruntime {wrong:.4f}")
is_so = operators == "Log Sigmoid" and found[0, 2] == -math.inf and abs(found[0, 1] + 10) < 1e-3
sys.exit(0 if is_so else "CHANGED: not as described in this script")
PYTHON
