#!/usr/bin/env bash
# nncf: 4-bit weights in an ONNX graph below opset 21 count every bias twice.
#
# Seen:      2026-11-30, nncf 3.4.0, onnxruntime 1.32.0
# Input:     an ONNX graph MatMul + Add of a bias, twice, in opset 18 and in opset 21; compress_weights in INT4_SYM, groups
#            of 64; run on a row of zeros, which by definition gives the biases.
# Expected:  the same of both.
# Observed:  in opset 18 the first layer becomes MatMulNBits with the bias inside, and the Add stays behind it: 2 * bias.
# stcompile: compresses in OpenVINO's format; benchmarks.recipes has a row for opset 18 that shows what it costs.
# Output:
#   nncf 3.4.0
#   opset 18: 2.0 times the bias
#   opset 21: 1.0 times the bias
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet nncf==3.4.0 onnx==1.20.1 onnxruntime==1.32.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import logging
import sys
from importlib.metadata import version

sys.modules["openvino_telemetry"] = None
import nncf
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

nncf.set_log_level(logging.CRITICAL)
draw = np.random.default_rng(0)
bias = draw.standard_normal(128).astype(np.float32)
weights = {
    "w1": draw.standard_normal((256, 128)).astype(np.float32),
    "b1": bias,
    "w2": np.eye(128, dtype=np.float32),  # the last layer keeps 8 bits
}
print("nncf", version("nncf"))


def biases(opset):
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], "first"),
        helper.make_node("Add", ["a", "b1"], ["b"], "bias"),
        helper.make_node("MatMul", ["b", "w2"], ["y"], "last"),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", s]) for n, s in (("x", 256), ("y", 128))]
    kept = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, "one", ends[:1], ends[1:], kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    made = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_SYM, group_size=64)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.zeros((1, 256), np.float32)})
    return float(np.round(np.median(found[0] / bias), 1))


seen = {opset: biases(opset) for opset in (18, 21)}
for opset, times in seen.items():
    print(f"opset {opset}: {times} times the bias")
sys.exit(0 if seen == {18: 2.0, 21: 1.0} else "CHANGED: not as described in this script")
PYTHON
