#!/usr/bin/env bash
# onnx: the reference evaluator gives an output that was left out to whatever input is left out behind it.
#
# Seen:      2026-11-30, onnx 1.23.2, onnxruntime 1.32.0
# Input:     a model that onnx.checker accepts with full_check=True and that ONNX Runtime runs: a LayerNormalization whose
#            second output, the mean, is left out (its name is empty), and behind it a Clip whose minimum is left out.
# Expected:  an input that is left out has no value: Clip has no minimum, which ONNX Runtime agrees with.
# Observed:  the mean is kept under the empty name, and Clip takes it for its minimum. No error. The same graph without
#            the LayerNormalization's third output, so that none is left out, is right.
# stcompile: its stand-ins for operators of GPUs look at no input that a fused attention leaves out (tests/cuda).
# Output:
#   onnx 1.23.2
#   onnxruntime 1.32.0
#   an output left out: ONNX Runtime [-1.342 -0.447  0.447  1.342], the evaluator [1.5 1.5 1.5 1.5]
#   none left out: ONNX Runtime [-1.342 -0.447  0.447  1.342], the evaluator [-1.342 -0.447  0.447  1.342]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" onnx==1.23.2 onnxruntime==1.32.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

for name in ("onnx", "onnxruntime"):
    print(name, version(name))


def clipped(name, outputs):
    """What ONNX Runtime and the evaluator make of the first row."""
    model = onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 20]>
g (float[2,4] x) => (float[2,4] y) {{
  gain = Constant <value = float[4] {{1.0, 1.0, 1.0, 1.0}}> ()
  high = Constant <value = float {{9.0}}> ()
  {outputs} = LayerNormalization (x, gain)
  y = Clip (normal, , high)
}}""")
    onnx.checker.check_model(model, full_check=True)
    feeds = {"x": np.arange(8, dtype=np.float32).reshape(2, 4)}
    run = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)[0][0].round(3)
    evaluated = ReferenceEvaluator(model).run(None, feeds)[0][0].round(3)
    print(f"{name}: ONNX Runtime {run}, the evaluator {evaluated}")
    return np.array_equal(run, evaluated)


left_out = clipped("an output left out", "normal, , deviation")
whole = clipped("none left out", "normal")
sys.exit(0 if whole and not left_out else "CHANGED: not as described in this script")
PYTHON
