#!/usr/bin/env bash
# onnxruntime: the same Attention node with a soft cap and a mask gives other numbers from release 1.27 on.
#
# Seen:      2026-11-30, onnxruntime 1.26.0 and 1.27.0, CPU
# Input:     one ai.onnx Attention of opset 23, with softcap=2 and attn_mask of 0 and -1, as a node by itself.
# Expected:  one operator of one version is one function. Gemma 2, which has both, adds the mask behind the cap.
# Observed:  1.26 adds the mask to the scores before tanh bends them, 1.27 behind it; neither warns.
# stcompile: writes attention with a soft cap as loose operators (stcompile/compiler/passes/_bent.py).
# Output:
#   1.26.0 mask before the cap: 7e-07, behind it: 2e+00
#   1.27.0 mask before the cap: 2e+00, behind it: 6e-07
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/run.py" <<'PYTHON'
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

draw = np.random.default_rng(0)
query, key, value = (3 * draw.standard_normal((1, 1, 4, 8)).astype(np.float32) for _ in range(3))
mask = -np.triu(np.ones((4, 4), np.float32), 1)
cap = 2.0


def attention(before):
    scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(8)
    bent = cap * np.tanh((scores + mask) / cap) if before else cap * np.tanh(scores / cap) + mask
    chances = np.exp(bent - bent.max(-1, keepdims=True))
    return chances / chances.sum(-1, keepdims=True) @ value


values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 4, 8]) for name in "qkv"]
values.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, [4, 4]))
node = helper.make_node("Attention", ["q", "k", "v", "m"], ["y"], softcap=cap)
end = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 4, 8])
graph = helper.make_graph([node], "one", values, [end])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
(made,) = session.run(None, {"q": query, "k": key, "v": value, "m": mask})
apart = {name: float(np.abs(made - attention(name == "before")).max()) for name in ("before", "behind")}
print(f"{onnxruntime.__version__} mask before the cap: {apart['before']:.0e}, behind it: {apart['behind']:.0e}")
same, other = ("before", "behind") if onnxruntime.__version__ < "1.27" else ("behind", "before")
sys.exit(0 if apart[same] < 1e-5 < 1e-2 < apart[other] else "CHANGED: not as described in this script")
PYTHON
for release in 1.26.0 1.27.0; do
  "${PYTHON:-python3}" -m venv "$folder/$release"
  "$folder/$release/bin/python" -m pip install --quiet "onnxruntime==$release" onnx==1.20.1 numpy==2.4.6
  "$folder/$release/bin/python" "$folder/run.py"
done
