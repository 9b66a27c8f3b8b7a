#!/usr/bin/env bash
# nncf: scale estimation gives 4-bit weights scales that are integers, and the network is ruined without a word.
#
# Seen:      2026-11-30, nncf 3.4.0, openvino 2026.4.1
# Input:     one OpenVINO MatMul of (.., 256) by a constant (256, 128) with transpose_b off, as ONNX exports have it;
#            compress_weights in INT4_SYM, groups of 64, with scale_estimation and a dataset of 32 rows.
# Expected:  scales are float16, as without scale estimation, and the result is as near or nearer.
# Observed:  the scale constant is int16, so that numbers are whole which were small fractions, and nothing is said. The
#            same weight as (128, 256) with transpose_b on is right.
# stcompile: turns weights to (out, in) before it calls NNCF, and refuses scales that are not float16
#            (stcompile/compiler/quantize/nncf.py).
# Output:
#   nncf 3.4.0
#   transpose_b=False: without scale estimation f16, with it i16
#   transpose_b=True: without scale estimation f16, with it f16
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet nncf==3.4.0 openvino==2026.4.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import logging
import sys
from importlib.metadata import version

sys.modules["openvino_telemetry"] = None
import nncf
import numpy as np
import openvino as ov
from openvino import opset13 as ops

nncf.set_log_level(logging.CRITICAL)
draw = np.random.default_rng(0)
rows = [draw.standard_normal((1, 8, 256)).astype(np.float32) for _ in range(32)]
print("nncf", version("nncf"))


def scales(turned, estimates):
    weight = draw.standard_normal((256, 128)).astype(np.float32)
    x = ops.parameter([-1, -1, 256], np.float32, name="x")
    constant = ops.constant(np.ascontiguousarray(weight.T if turned else weight))
    first = ops.matmul(x, constant, False, turned)
    # The last layer keeps 8 bits.
    last = ops.constant(draw.standard_normal((128, 8)).astype(np.float32))
    model = ov.Model([ops.matmul(first, last, False, False)], [x])
    extra = {"scale_estimation": True, "dataset": nncf.Dataset(rows)} if estimates else {}
    made = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_SYM, group_size=64, **extra)
    found = set()
    for node in made.get_ops():
        if node.get_type_name() == "Multiply":
            source = node.input_value(1).get_node()
            while source.get_type_name() in ("Convert", "Reshape"):
                source = source.input_value(0).get_node()
            if source.get_type_name() == "Constant" and len(source.get_output_shape(0)) == 3:
                found.add(source.get_element_type().get_type_name())
    return "+".join(sorted(found))


seen = {}
for turned in (False, True):
    seen[turned] = [scales(turned, estimates) for estimates in (False, True)]
    print(f"transpose_b={turned}: without scale estimation {seen[turned][0]}, with it {seen[turned][1]}")
described = seen == {False: ["f16", "i16"], True: ["f16", "f16"]}
sys.exit(0 if described else "CHANGED: not as described in this script")
PYTHON
