#!/usr/bin/env bash
# transformers: the order of the nodes of an exported ModernBERT depends on PYTHONHASHSEED.
#
# Seen:      2026-11-28, transformers 5.23.0, torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0
# Input:     one seeded ModernBERT of a full and a sliding layer, exported by torch.onnx.export(dynamo=True) for any
#            batch and length, in three processes of one installation: PYTHONHASHSEED=1 twice, then 3.
# Expected:  equal weights and versions give equal files, in every process.
# Observed:  ModernBertModel.forward computes the rotary tables `for layer_type in set(self.config.layer_types)`, and
#            the order of a set of strings is the process's own. Seeds 1 and 3 give the two orders: the same nodes in
#            another order, so another SHA-256, with equal outputs. Seed 1 gives the same bytes twice, and with that
#            one set sorted all three processes do. (Seed 2 is as 1, and 0 as 3, on 64-bit CPython 3.11.) Without
#            PYTHONHASHSEED each process draws its own, so that an exported file has no stable hash.
#            The same set is sorted where the rotary embedding registers its buffers, as huggingface/transformers#48162
#            of August 2026 asks; in the forward it is not, in 5.24.0 neither. Gemma 3 has the line too.
# stcompile: goes through such sets in order while it traces a network (compiler/trace/ordered_sets.py).
# Output:
#   transformers 5.23.0
#   torch 2.13.0+cpu
#   onnx 1.23.2
#   onnxscript 0.7.2
#   onnxruntime 1.32.0
#   1-once: the set is sliding_attention full_attention
#   1-again: the set is sliding_attention full_attention
#   3-once: the set is full_attention sliding_attention
#   seeds 1 and 3: 159 nodes, equal initializers: True, equal nodes in any order: True
#     node 35: Mul rotary_emb.sliding_attention_inv_freq | Mul rotary_emb.full_attention_inv_freq
#     node 39: Mul rotary_emb.full_attention_inv_freq | Mul rotary_emb.sliding_attention_inv_freq
#     largest difference of the outputs: 0
#   seed 1 twice: equal bytes: True | seeds 1 and 3: equal bytes: False
#   with the set sorted, all three: equal bytes: True
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" \
    transformers==5.23.0 torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
cat >"$folder/export.py" <<'PYTHON'
"""Exports one ModernBERT to argv[1]-asis.onnx, and to argv[1]-sorted.onnx with the set of its forward sorted."""

import logging
import sys
import warnings

import torch
from transformers import ModernBertConfig, ModernBertModel
from transformers.models.modernbert import modeling_modernbert

warnings.simplefilter("ignore")
logging.getLogger("torch.onnx").setLevel(logging.ERROR)
torch.manual_seed(0)
config = ModernBertConfig(
    vocab_size=16,
    hidden_size=16,
    intermediate_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=16,
    local_attention=4,
    layer_types=["full_attention", "sliding_attention"],
    rope_parameters={
        "full_attention": {"rope_type": "default", "rope_theta": 160000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    },
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0),
)
network = ModernBertModel(config).eval()
ids = torch.arange(16).reshape(2, 8)
inputs, axes = (ids, torch.ones_like(ids)), {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=16)}
for name, order in (("asis", set), ("sorted", lambda values: sorted(frozenset(values)))):
    modeling_modernbert.set = order
    program = torch.onnx.export(
        network, inputs, dynamo=True, input_names=["ids", "mask"], dynamic_shapes=(axes, axes), verbose=False
    )
    program.save(f"{sys.argv[1]}-{name}.onnx", external_data=False)
print(*set(config.layer_types))
PYTHON
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
for run in 1-once 1-again 3-once; do
    echo "$run: the set is $(PYTHONHASHSEED=${run%-*} "$folder/venv/bin/python" "$folder/export.py" "$folder/$run")" \
        >>"$folder/orders"
done
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

for name in ("transformers", "torch", "onnx", "onnxscript", "onnxruntime"):
    print(name, version(name))
folder = Path(sys.argv[1])
print((folder / "orders").read_text(), end="")
files = {path.stem: path.read_bytes() for path in sorted(folder.glob("*.onnx"))}


def initializers(name):
    graph = onnx.load_from_string(files[name]).graph
    return {item.name: onnx.numpy_helper.to_array(item).tobytes() for item in graph.initializer}


def nodes(name):
    """The operators in graph order, each with the names of the initializers that it reads."""
    known = initializers(name)
    graph = onnx.load_from_string(files[name]).graph
    return [(node.op_type, *(item for item in node.input if item in known)) for node in graph.node]


def output(name):
    session = onnxruntime.InferenceSession(files[name], providers=["CPUExecutionProvider"])
    ids = np.arange(12).reshape(3, 4)
    return session.run(None, {"ids": ids, "mask": np.ones_like(ids)})[0]


one, other = nodes("1-once-asis"), nodes("3-once-asis")
same_weights = initializers("1-once-asis") == initializers("3-once-asis")
same_nodes = Counter(one) == Counter(other)
print(f"seeds 1 and 3: {len(one)} nodes, equal initializers: {same_weights}, equal nodes in any order: {same_nodes}")
for index, pair in enumerate(zip(one, other, strict=True)):
    if pair[0] != pair[1]:
        print(f"  node {index}:", *pair[0], "|", *pair[1])
difference = abs(output("1-once-asis") - output("3-once-asis")).max().item()
print(f"  largest difference of the outputs: {difference:.2g}")
runs = ("1-once", "1-again", "3-once")
as_it_is, set_sorted = ([files[f"{run}-{name}"] for run in runs] for name in ("asis", "sorted"))
twice = as_it_is[0] == as_it_is[1]
print("seed 1 twice: equal bytes:", twice, "| seeds 1 and 3: equal bytes:", as_it_is[0] == as_it_is[2])
sorted_agree = len(set(set_sorted)) == 1
print("with the set sorted, all three: equal bytes:", sorted_agree)
as_described = one != other and same_weights and same_nodes and difference < 1e-6 and twice and sorted_agree
sys.exit(0 if as_described else "CHANGED: not as described in this script")
PYTHON
