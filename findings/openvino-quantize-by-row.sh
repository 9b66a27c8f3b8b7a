#!/usr/bin/env bash
# openvino: QuantizeLinear by row quantizes by column where the number of rows is not fixed.
#
# Seen:      2026-11-28, openvino 2026.4.1, onnx 1.23.2, onnxruntime 1.32.0
# Input:     an ONNX model of QuantizeLinear(axis=0) with one scale a row, and x of shape ("rows", 4): one scale a
#            token, as dynamic 8-bit quantization writes it.
# Expected:  row i is divided by scale i; or the model is refused.
# Observed:  with 4 rows (as many as columns) column j is divided by scale j: wrong integers, no error. With 3 rows:
#            RuntimeError from shape inference, at the first request. With 1 row, or a fixed number of rows: right. The
#            reader reshapes the scales to a column only where the axis's size is known, so they broadcast from the
#            right. DequantizeLinear is right.
# stcompile: its openvino targets divide by the scales first, kept as a column, and quantize with one scale;
#            docs/targets.md says that OpenVINO's reader cannot run onnx-int8.
# Output:
#   openvino 2026.4.1
#   onnx 1.23.2
#   onnxruntime 1.32.0
#   x (4, 4), 4 rows: 0 of 16 numbers differ from ONNX Runtime's
#   x ('rows', 4), 1 rows: 0 of 4 numbers differ from ONNX Runtime's
#   x ('rows', 4), 3 rows: RuntimeError: Check 'TRShape::broadcast_merge_into(data_pshape, input_shapes[i],
#       auto_broadcast)' failed at src/core/shape_inference/include/fake_quantize.hpp:27:
#   x ('rows', 4), 4 rows: 12 of 16 numbers differ from ONNX Runtime's
#       ONNX Runtime [[25, -26, 127, 21], [-52, 35, 127, 92], [-71, -127, -63, 4], [-127, -12, -68, -40]]
#       OpenVINO     [[25, -1, 1, 0], [-128, 35, 13, 1], [-128, -128, -63, 0], [-128, -128, -128, -40]]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" \
    openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import io
import sys
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper

for name in ("openvino", "onnx", "onnxruntime"):
    print(name, version(name))


def quantized(rows, declared):
    """How many int8 numbers differ between ONNX Runtime and OpenVINO, or the error of OpenVINO."""
    sizes = 10.0 ** np.arange(rows)[:, None]
    x = (np.random.default_rng(0).standard_normal((rows, 4)) * sizes).astype(np.float32)
    feeds = {"x": x, "scale": np.abs(x).max(axis=1) / np.float32(127)}
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [declared, 4]),
        helper.make_tensor_value_info("scale", TensorProto.FLOAT, [declared]),
    ]
    output = helper.make_tensor_value_info("levels", TensorProto.INT8, [declared, 4])
    node = helper.make_node("QuantizeLinear", ["x", "scale"], ["levels"], axis=0, output_dtype=TensorProto.INT8)
    graph = helper.make_graph([node], "by_row", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)[0]
    core = openvino.Core()
    try:
        compiled = core.compile_model(core.read_model(io.BytesIO(model.SerializeToString())), "CPU")
        found = compiled(feeds)[0]
    except RuntimeError as error:
        line = next(line for line in str(error).splitlines() if "Check" in line)
        print(f"x {declared, 4}, {rows} rows: RuntimeError: Check{line.partition('Check')[2]}")
        return "error"
    differ = int((found != expected).sum())
    print(f"x {declared, 4}, {rows} rows: {differ} of {expected.size} numbers differ from ONNX Runtime's")
    if differ:
        print(f"    ONNX Runtime {expected.tolist()}\n    OpenVINO     {found.tolist()}")
    return differ


fixed, one, three, four = quantized(4, 4), quantized(1, "rows"), quantized(3, "rows"), quantized(4, "rows")
kept = fixed == one == 0 and three == "error" and four not in (0, "error")
sys.exit(0 if kept else "CHANGED: not as described in this script")
PYTHON
