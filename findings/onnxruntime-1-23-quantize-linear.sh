#!/usr/bin/env bash
# onnxruntime 1.23: QuantizeLinear is the operator of opset 23 without a kernel.
#
# Seen:      2026-11-28, onnxruntime 1.23.2 (refuses) and 1.24.1 (runs), onnx 1.23.2
# Input:     a model of QuantizeLinear in opset 23, the newest opset that 1.23 accepts and whose Attention it runs.
# Expected:  it runs, as QuantizeLinear of opset 21 and DequantizeLinear of opset 23 do.
# Observed:  "NOT_IMPLEMENTED : Could not find an implementation for QuantizeLinear(23)". The kernel is registered with
#            the wrong types (https://github.com/microsoft/onnxruntime/issues/25932).
# stcompile: writes QuantizeLinear in ONNX Runtime's own domain, which is the same kernel and there in every release.
# Output:
#   onnxruntime 1.23.2 QuantizeLinear of opset 21 loads
#       [ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for QuantizeLinear(23) node with
#       name ''
#   onnxruntime 1.23.2 QuantizeLinear of opset 23 refused
#   onnxruntime 1.23.2 DequantizeLinear of opset 23 loads
#   onnxruntime 1.24.1 QuantizeLinear of opset 21 loads
#   onnxruntime 1.24.1 QuantizeLinear of opset 23 loads
#   onnxruntime 1.24.1 DequantizeLinear of opset 23 loads
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" \
    onnx==1.23.2 numpy==2.4.6
check() {
    "$folder/venv/bin/python" -m pip install --quiet "$1"
    "$folder/venv/bin/python" - "$2" <<'PYTHON'
import sys

import onnx
import onnxruntime
from onnx import TensorProto, helper

found = []
for kind, opset in (("QuantizeLinear", 21), ("QuantizeLinear", 23), ("DequantizeLinear", 23)):
    types = [TensorProto.FLOAT, TensorProto.UINT8]
    names = ["x", "y"]
    values = [
        helper.make_tensor_value_info(name, type_, ["n"])
        for name, type_ in zip(names, types if kind == "QuantizeLinear" else types[::-1], strict=True)
    ]
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1])
    zero = helper.make_tensor("zero", TensorProto.UINT8, [], [128])
    node = helper.make_node(kind, ["x", "scale", "zero"], ["y"])
    graph = helper.make_graph([node], kind, values[:1], values[1:], [scale, zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        found.append("loads")
    except Exception as error:
        found.append("refused")
        print(f"    {error}")
    print("onnxruntime", onnxruntime.__version__, kind, "of opset", opset, found[-1])
sys.exit(0 if " ".join(found) == sys.argv[1] else "CHANGED: not as described in this script")
PYTHON
}
check onnxruntime==1.23.2 'loads refused loads'
check onnxruntime==1.24.1 'loads loads loads'
