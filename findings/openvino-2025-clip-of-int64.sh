#!/usr/bin/env bash
# openvino before 2026.0: Clip of int64 without an upper limit answers 0 for everything.
#
# Seen:      2026-11-28, openvino 2025.4.1 (wrong) and 2026.4.1 (right), onnx 1.23.2
# Input:     an ONNX model of Clip(x, min=1) on int64, as a count that must not be 0 is written.
# Expected:  [0, 5, -3] becomes [1, 5, 1].
# Observed:  [0, 0, 0]: the missing limit becomes the largest int64, which passes through double and comes back negative
#            (https://github.com/openvinotoolkit/openvino/pull/32948). A mean that divides by such a count is NaN: of an
#            empty text of a static model it was.
# stcompile: needs openvino 2026.3 or later for its openvino targets.
# Output:
#   openvino 2025.4.1-20426-82bbf0292c5-releases/2025/4 Clip([0, 5, -3], min=1): [0, 0, 0]
#   openvino 2026.4.1-22982-e213a147257-releases/2026/4 Clip([0, 5, -3], min=1): [1, 5, 1]
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
import io
import sys

import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper

values = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n"]) for name in ("x", "y")]
one = helper.make_tensor("one", TensorProto.INT64, [], [1])
graph = helper.make_graph([helper.make_node("Clip", ["x", "one"], ["y"])], "clip", values[:1], values[1:], [one])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
onnx.checker.check_model(model, full_check=True)
core = openvino.Core()
compiled = core.compile_model(core.read_model(io.BytesIO(model.SerializeToString())), "CPU")
found = compiled({"x": np.array([0, 5, -3], np.int64)})[0].tolist()
print("openvino", openvino.__version__, "Clip([0, 5, -3], min=1):", found)
sys.exit(0 if str(found) == sys.argv[1] else "CHANGED: not as described in this script")
PYTHON
}
check openvino==2025.4.1 '[0, 0, 0]'
check openvino==2026.4.1 '[1, 5, 1]'
