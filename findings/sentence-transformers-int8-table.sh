#!/usr/bin/env bash
# sentence-transformers: a model2vec folder with an int8 table cannot be loaded.
#
# Seen:      2026-11-28, sentence-transformers 6.2.0, model2vec 0.8.0, torch 2.13.0
# Input:     a folder that model2vec wrote, its table quantized to int8 by its own `quantize_to="int8"`.
# Expected:  StaticEmbedding.from_model2vec(folder) and SentenceTransformer(folder) load it as they load the same table
#            in float32 and float16; or a sentence that says int8 is not supported.
# Observed:  both raise "RuntimeError: Only Tensors of floating point and complex dtype can require gradients":
#            StaticEmbedding makes its EmbeddingBag with freeze=False of whatever type the table has.
# stcompile: casts the table to float32, and names in its report that sentence-transformers could not judge the folder.
# Output:
#   sentence-transformers 6.2.0
#   model2vec 0.8.0
#   torch 2.13.0+cpu
#   float32: model2vec itself reads float32, encode('hello') [-0.544259   -0.31630015  0.41163054]
#   float32: from_model2vec: loaded
#   float32: SentenceTransformer: loaded
#   float16: model2vec itself reads float16, encode('hello') [-0.5444 -0.3164  0.4116]
#   float16: from_model2vec: loaded
#   float16: SentenceTransformer: loaded
#   int8: model2vec itself reads int8, encode('hello') [-30. -17.  22.]
#   int8: from_model2vec: RuntimeError: Only Tensors of floating point and complex dtype can require gradients
#   int8: SentenceTransformer: RuntimeError: Only Tensors of floating point and complex dtype can require gradients
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" \
    sentence-transformers==6.2.0 model2vec==0.8.0 torch==2.13.0
HF_HUB_OFFLINE=1 TQDM_DISABLE=1 "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from model2vec import StaticModel
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

for name in ("sentence-transformers", "model2vec", "torch"):
    print(name, version(name))
tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "hello": 2}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
table = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
StaticModel(table, tokenizer).save_pretrained(f"{sys.argv[1]}/float32")

loads = {}
for kind in ("float32", "float16", "int8"):
    folder = f"{sys.argv[1]}/{kind}"
    StaticModel.from_pretrained(f"{sys.argv[1]}/float32", quantize_to=kind).save_pretrained(folder)
    own = StaticModel.from_pretrained(folder)
    print(f"{kind}: model2vec itself reads {own.embedding.dtype}, encode('hello') {own.encode('hello')[:3]}")
    for call in (StaticEmbedding.from_model2vec, SentenceTransformer):
        try:
            loaded = call(folder)
            loads[kind, call] = "loaded"
        except RuntimeError as error:
            loads[kind, call] = f"RuntimeError: {error}"
        print(f"{kind}: {call.__name__}: {loads[kind, call]}")
expected = {key: ("Only Tensors of floating point" if key[0] == "int8" else "loaded") for key in loads}
kept = all(expected[key] in found for key, found in loads.items())
sys.exit(0 if kept else "CHANGED: not as described in this script")
PYTHON
