#!/usr/bin/env bash
# onnx: the reference evaluator's GatherElements fails above 64 rows, and is silently wrong on one column.
#
# Seen:      2026-11-28, onnx 1.23.2, numpy 2.4.6, onnxruntime 1.32.0
# Input:     models that onnx.checker accepts with full_check=True and that ONNX Runtime runs.
# Expected:  output[i][j] = data[index[i][j]][j] for axis 0, of any size; the output has the shape of the indices, and
#            nothing in the operator's text asks them to be as large as the data.
# Observed:  - more than 64 elements on the axis: "ValueError: Need at least 0 and at most 64 array objects."
#            (numpy.choose).
#            - the same in two dimensions falls back to another way: on one column, axis 0, index 0 for every row, it
#              answers data itself instead of its first row. No error.
#            - indices smaller than the data off the axis: "ValueError: Except for dimension 1, all dimensions ...".
#            Mended upstream after this release by numpy.take_along_axis (https://github.com/onnx/onnx/pull/8444).
# stcompile: judges float16 graphs with this evaluator, and brings a GatherElements for it (compiler/parity/half.py).
# Output:
#   onnx 1.23.2
#   numpy 2.4.6
#   onnxruntime 1.32.0
#   63 elements: ONNX Runtime [62.  3.], the evaluator right
#   65 elements: ONNX Runtime [64.  3.], the evaluator ValueError: Need at least 0 and at most 64 array objects.
#   65 rows of 1, index 0: ONNX Runtime [0. 0. 0.], the evaluator wrong: [0. 1. 2.]
#   3 rows, 1 row of indices: ONNX Runtime [1. 2.], the evaluator ValueError: Except for dimension 1, all dimensions
#       of index and self should be the same size.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" \
    onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

for name in ("onnx", "numpy", "onnxruntime"):
    print(name, version(name))


def gather(name, data, indices, axis):
    """What the reference evaluator makes of it, 'right' where that is what ONNX Runtime answers."""
    inputs = [
        helper.make_tensor_value_info("data", TensorProto.FLOAT, data.shape),
        helper.make_tensor_value_info("indices", TensorProto.INT64, indices.shape),
    ]
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, indices.shape)
    node = helper.make_node("GatherElements", ["data", "indices"], ["output"], axis=axis)
    model = helper.make_model(
        helper.make_graph([node], name, inputs, [output]), opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    )
    onnx.checker.check_model(model, full_check=True)
    feeds = {"data": data, "indices": indices}
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)[0]
    try:
        found = ReferenceEvaluator(model).run(None, feeds)[0]
        what = "right" if np.array_equal(found, expected) else f"wrong: {found.ravel()[:3]}"
    except ValueError as error:
        what = f"ValueError: {error}"
    print(f"{name}: ONNX Runtime {expected.ravel()[:3]}, the evaluator {what}")
    return what


def rows(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


small = gather("63 elements", rows(63), np.array([62, 3]), 0)
large = gather("65 elements", rows(65), np.array([64, 3]), 0)
column = gather("65 rows of 1, index 0", rows(65, 1), np.zeros((65, 1), np.int64), 0)
fewer = gather("3 rows, 1 row of indices", rows(3, 4), np.array([[1, 2]]), 1)
kept = small == "right" and "at most 64" in large and column.startswith("wrong") and "same size" in fewer
sys.exit(0 if kept else "CHANGED: not as described in this script")
PYTHON
