#!/usr/bin/env bash
# sentence-transformers: a RoBERTa without a stored limit is cut two tokens behind its last position, and long texts fail.
#
# Seen:      2026-11-29, sentence-transformers 6.2.0, transformers 5.23.0
# Input:     a one-layer RoBERTa with max_position_embeddings 18 that classifies, whose tokenizer stores no model_max_length.
#            Positions begin behind the padding id, at 2, so 16 tokens have one. CrossEncoder scores a pair of 100 words each,
#            with its own limit and with max_length=16; SentenceTransformer reads a text of 100 words likewise.
# Expected:  cut at 16 tokens by itself.
# Observed:  max_seq_length is 18 (the smaller of the tokenizer's limit and max_position_embeddings), and whatever has 17 or 18
#            tokens raises. The number that is passed is kept and works.
# stcompile: cuts at the positions that there are, and says so.
# Output:
#   sentence-transformers 6.2.0, transformers 5.23.0
#   CrossEncoder: limit 18, raises; told 16: scores
#   SentenceTransformer: limit 18, raises; told 16: encodes
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" \
    sentence-transformers==6.2.0 transformers==5.23.0 torch
cat > "$folder/script.py" <<'PYTHON'
import json
import sys
from importlib.metadata import version
from pathlib import Path

import torch
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors

FOLDER = Path(sys.argv[1])
WORDS = ["<s>", "<pad>", "</s>", "<unk>", "word"]
LONG = "word " * 100


def build():
    config = transformers.RobertaConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=18, pad_token_id=1, bos_token_id=0, eos_token_id=2, num_labels=1,
    )
    torch.manual_seed(0)
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(FOLDER)
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    made.save(str(FOLDER / "tokenizer.json"))
    names = {"bos_token": "<s>", "cls_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "sep_token": "</s>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", **names}
    (FOLDER / "tokenizer_config.json").write_text(json.dumps(settings))


def seen(model, ask):
    found = [model.max_seq_length]
    for limit in (model.max_seq_length, 16):
        model.max_seq_length = limit
        try:
            ask(model)
            found.append("works")
        except (IndexError, RuntimeError):
            found.append("raises")
    return found


build()
print(f"sentence-transformers {version('sentence-transformers')}, transformers {version('transformers')}")
results = {}
for kind, ask in (
    (CrossEncoder, lambda model: model.predict([(LONG, LONG)])),
    (SentenceTransformer, lambda model: model.encode([LONG])),
):
    limit, own, told = results[kind.__name__] = seen(kind(str(FOLDER), device="cpu"), ask)
    done = "scores" if kind is CrossEncoder else "encodes"
    print(f"{kind.__name__}: limit {limit}, {own}; told 16: {done if told == 'works' else told}")
described = all(found == [18, "raises", "works"] for found in results.values())
sys.exit(0 if described else "CHANGED: not as described in this script")
PYTHON
HF_HUB_OFFLINE=1 HF_HOME="$folder/cache" TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1 \
    "$folder/venv/bin/python" "$folder/script.py" "$folder/model" 2> >(grep -v "Loading weights" >&2)
