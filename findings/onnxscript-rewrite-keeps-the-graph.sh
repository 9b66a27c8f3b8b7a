#!/usr/bin/env bash
# onnxscript: a model that went through `rewrite` stays in memory, all its weights too, until the next one comes.
#
# Seen:      2026-11-28, onnxscript 0.7.2, onnx-ir 1.1.0, numpy 2.4.6
# Input:     a valid graph with one Add and a weight of 64 MB, handed to onnxscript.rewriter.rewrite() and deleted.
# Expected:  the weight is freed with the last name of the model.
# Observed:  each default rule is one object for the whole process, and its pattern matcher keeps the graph it last
#            looked at. The weight is alive after gc.collect(), and goes when another graph is rewritten. A rule of two
#            Slices looks only where there are two, so it keeps an older graph than the others do.
#            torch.onnx.export(dynamo=True, optimize=True) ends in the same rules: the network that was exported stays
#            in memory for as long as the process does nothing else of the kind.
# stcompile: rewrites a graph of two Slices after each trace (compiler/trace/onnx.py), so that the network can go.
# Output:
#   onnxscript 0.7.2
#   onnx-ir 1.1.0
#   numpy 2.4.6
#   after rewrite and del: alive
#   after another rewrite: freed
#   a graph with two Slices, after rewriting one without: alive
#   after rewriting one with two: freed
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" \
    onnxscript==0.7.2 onnx-ir==1.1.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import gc
import sys
import weakref
from importlib.metadata import version

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import rewrite

for name in ("onnxscript", "onnx-ir", "numpy"):
    print(name, version(name))


class Weights(np.ndarray):
    """An array that weak references can point to."""


def model(slices):
    """x + weight, and so many slices of x; and a weak reference to the weight."""
    weight = np.zeros(16 << 20, np.float32).view(Weights)
    value = ir.val("weight", ir.DataType.FLOAT, (16 << 20,), const_value=ir.Tensor(weight, name="weight"))
    x, index = ir.val("x", ir.DataType.FLOAT, ("n",)), ir.val("index", ir.DataType.INT64, (1,))
    nodes = [ir.node("Add", [x, value]), *(ir.node("Slice", [x, index, index]) for _ in range(slices))]
    outputs = [output for node in nodes for output in node.outputs]
    for number, output in enumerate(outputs):
        output.name = f"output_{number}"
    graph = ir.Graph([x, index], outputs, nodes=nodes, initializers=[value], opset_imports={"": 20})
    return ir.Model(graph, ir_version=10), weakref.ref(weight)


def rewritten(slices):
    """A weak reference to the weight of a model that was rewritten, and that nobody here has any more."""
    made, weight = model(slices)
    rewrite(made)
    return weight


def state(weight):
    gc.collect()
    return "freed" if weight() is None else "alive"


first = rewritten(0)
found = [state(first)]
print("after rewrite and del:", found[-1])
rewritten(0)
found.append(state(first))
print("after another rewrite:", found[-1])
second = rewritten(2)
rewritten(0)
found.append(state(second))
print("a graph with two Slices, after rewriting one without:", found[-1])
rewritten(2)
found.append(state(second))
print("after rewriting one with two:", found[-1])
sys.exit(0 if found == ["alive", "freed", "alive", "freed"] else "CHANGED: not as described in this script")
PYTHON
