#!/usr/bin/env bash
# onnx: the reference evaluator's LayerNormalization and RMSNormalization square in float16, whatever stash_type says.
#
# Seen:      2026-11-28, onnx 1.23.2, numpy 2.4.6, onnxruntime 1.32.0
# Input:     float16 rows of 64 normal numbers, of standard deviation 300 (ordinary in a network's residual stream),
#            with stash_type 1, the default.
# Expected:  "if stash_type is 1, this operator casts all input variables to 32-bit float, perform the computation, and
#            finally cast Normalized back to the original type of X"; Mean and InvStdDev are float32.
# Observed:  squares are float16 and infinite above 256, so every output is 0; Mean and InvStdDev are float16. ONNX
#            Runtime is equal to numpy in float32, bit for bit.
#            Mended upstream after this release (https://github.com/onnx/onnx/pull/8439).
# stcompile: judges float16 graphs with this evaluator, and runs its operators in float32, rounding results
#            (compiler/parity/half.py).
# Output:
#   onnx 1.23.2
#   numpy 2.4.6
#   onnxruntime 1.32.0
#   LayerNormalization: float32 in numpy [ 0.0646 -0.2181  0.629 ]
#       ONNX Runtime  [ 0.0646 -0.2181  0.629 ], largest error 0
#       the evaluator [ 0. -0.  0.], largest error 2.62
#       types of y mean inv_std from the evaluator: float16 float16 float16
#       types of y mean inv_std from ONNX Runtime: float16 float32 float32
#   RMSNormalization: float32 in numpy [ 0.1375 -0.1444  0.7   ]
#       ONNX Runtime  [ 0.1375 -0.1444  0.7   ], largest error 0
#       the evaluator [ 0. -0.  0.], largest error 2.54
#       types of y from the evaluator: float16
#       types of y from ONNX Runtime: float16
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" \
    onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
import warnings
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

for name in ("onnx", "numpy", "onnxruntime"):
    print(name, version(name))
warnings.simplefilter("ignore")
rows, width, epsilon = 2, 64, 1e-5
x = (np.random.default_rng(0).standard_normal((rows, width)) * 300).astype(np.float16)
feeds = {"x": x, "scale": np.ones(width, np.float16)}
kept = True
for kind in ("LayerNormalization", "RMSNormalization"):
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT16, x.shape)]
    if kind == "LayerNormalization":
        outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, (rows, 1)) for name in ("mean", "inv_std")]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, feed.shape) for name, feed in feeds.items()]
    names = [output.name for output in outputs]
    node = helper.make_node(kind, list(feeds), names, axis=-1, epsilon=epsilon, stash_type=TensorProto.FLOAT)
    model = helper.make_model(
        helper.make_graph([node], kind, inputs, outputs), opset_imports=[helper.make_opsetid("", 23)], ir_version=11
    )
    onnx.checker.check_model(model, full_check=True)
    wide = x.astype(np.float32)
    centred = wide - wide.mean(-1, keepdims=True) if kind == "LayerNormalization" else wide
    expected = (centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)).astype(np.float16)
    engine = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
    found = ReferenceEvaluator(model).run(None, feeds)
    print(f"{kind}: float32 in numpy {expected[0, :3]}")
    print(f"    ONNX Runtime  {engine[0][0, :3]}, largest error {abs(engine[0] - expected).max():.3g}")
    print(f"    the evaluator {found[0][0, :3]}, largest error {abs(found[0] - expected).max():.3g}")
    print("    types of", *names, "from the evaluator:", *(value.dtype for value in found))
    print("    types of", *names, "from ONNX Runtime:", *(value.dtype for value in engine))
    kept &= not found[0].any() and abs(engine[0] - expected).max() < 2e-3
    kept &= all(value.dtype == np.float16 for value in found)
sys.exit(0 if kept else "CHANGED: not as described in this script")
PYTHON
