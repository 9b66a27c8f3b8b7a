#!/usr/bin/env bash
# infinity: a BERT reranker scores pairs as one text each with engine="optimum", and as a pair of texts in transformers.
#
# Seen:      2026-11-30, infinity-emb 0.0.78 with onnxruntime 1.32.0
# Input:     a BertForSequenceClassification of one label, exported to ONNX by optimum: ms-marco-MiniLM's kind.
# Expected:  the logits of transformers, where the document's tokens are of type 1.
# Observed:  infinity asks its tokenizer for no token types, so that all tokens are of type 0: exactly the scores that
#            transformers gives without token_type_ids. No warning.
# stcompile: token types are an input of the graph wherever the model's tokenizer makes them; a reranker is compared with
#            CrossEncoder at each export. In benchmarks.rerankers the correlation with torch shows it.
# Output:
#   as transformers without token types: True
#   as transformers: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "infinity-emb[optimum,torch]==0.0.78" onnxruntime==1.32.0 torch==2.13.0 2>/dev/null
cat >"$folder/rerank.py" <<'PYTHON'
import asyncio, os, sys
from pathlib import Path

import numpy as np
import torch
from optimum.onnxruntime import ORTModelForSequenceClassification
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

home = Path(sys.argv[1])
home.mkdir()
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "how", "many", "people", "a", "city", "river", "three", "million"]
(home / "vocab.txt").write_text("\n".join(words))
BertTokenizerFast(str(home / "vocab.txt"), model_max_length=64).save_pretrained(home / "torch")
torch.manual_seed(0)
shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
network = BertForSequenceClassification(BertConfig(len(words), num_labels=1, initializer_range=0.5, **shape)).eval()
network.save_pretrained(home / "torch")
ORTModelForSequenceClassification.from_pretrained(home / "torch", export=True).save_pretrained(home / "onnx")
tokenizer = BertTokenizerFast.from_pretrained(home / "torch")
tokenizer.save_pretrained(home / "onnx")
query, documents = "how many people", ["a city", "a river", "three million people"]
inputs = tokenizer([query] * 3, documents, padding=True, return_tensors="pt")
with torch.no_grad():
    right = network(**inputs).logits[:, 0].numpy()
    without = network(inputs["input_ids"], inputs["attention_mask"]).logits[:, 0].numpy()

os.environ.update(DO_NOT_TRACK="1", INFINITY_ANONYMOUS_USAGE_STATS="0")
os.chdir(home / "onnx")
from infinity_emb import AsyncEmbeddingEngine, EngineArgs


async def scores():
    engine = AsyncEmbeddingEngine.from_args(
        EngineArgs(model_name_or_path=".", engine="optimum", device="cpu", model_warmup=False, bettertransformer=False)
    )
    await engine.astart()
    found, _ = await engine.rerank(query=query, docs=documents, raw_scores=True)
    return [item.relevance_score for item in sorted(found, key=lambda item: item.index)]


theirs = np.array(asyncio.run(scores()))
print("as transformers without token types:", bool(np.allclose(theirs, without, atol=1e-4)))
print("as transformers:", bool(np.allclose(theirs, right, atol=1e-1)), flush=True)
os._exit(0)
PYTHON
"$folder/venv/bin/python" "$folder/rerank.py" "$folder/model" 2>"$folder/errors" | { grep "^as transformers" || true; } | tee "$folder/seen"
printf '%s\n' "as transformers without token types: True" "as transformers: False" >"$folder/expected"
cmp -s "$folder/seen" "$folder/expected" || { echo CHANGED >&2; tail -3 "$folder/errors" >&2; exit 1; }
