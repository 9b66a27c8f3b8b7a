#!/usr/bin/env bash
# tokenizers: a limit below the number of special tokens cuts nothing.
#
# Seen:      2026-11-28, tokenizers 0.23.3, transformers 5.23.0
# Input:     a tokenizer that adds [CLS] a [SEP] and [CLS] a [SEP] b [SEP], a limit of 1 for one text or 2 for two.
# Expected:  an error, as where one text of a pair is too short to be cut; or no more than the special tokens.
# Observed:  nothing is cut and nothing is said: 9 ids of a text of 7 words, 17 of two, as without any limit. From 2 and
#            3 on the limit holds. The number of special tokens is subtracted from the limit as an unsigned number
#            (https://github.com/huggingface/tokenizers/pull/1859). transformers' max_length goes the same way.
# stcompile: refuses pairs of texts where the limit is below a pair's special tokens.
# Output:
#   tokenizers 0.23.3
#   transformers 5.23.0
#   limit 0: ids of one text, of a pair: tokenizers (9, 17), transformers (9, 17)
#   limit 1: ids of one text, of a pair: tokenizers (9, 17), transformers (9, 17)
#   limit 2: ids of one text, of a pair: tokenizers (2, 17), transformers (2, 17)
#   limit 3: ids of one text, of a pair: tokenizers (3, 3), transformers (3, 3)
#   limit 4: ids of one text, of a pair: tokenizers (4, 4), transformers (4, 4)
#   limit 5: ids of one text, of a pair: tokenizers (5, 5), transformers (5, 5)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" \
    tokenizers==0.23.3 transformers==5.23.0
HF_HUB_OFFLINE=1 TQDM_DISABLE=1 "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from importlib.metadata import version

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

for name in ("tokenizers", "transformers"):
    print(name, version(name))
tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
)
text = " ".join("a" * 7)
found = {}
for limit in range(6):
    tokenizer.enable_truncation(limit)
    found[limit] = len(tokenizer.encode(text).ids), len(tokenizer.encode(text, text).ids)
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
through = {
    limit: tuple(len(fast(*texts, truncation=True, max_length=limit)["input_ids"]) for texts in ((text,), (text, text)))
    for limit in found
}
for limit, counts in found.items():
    print(f"limit {limit}: ids of one text, of a pair: tokenizers {counts}, transformers {through[limit]}")
described = {0: (9, 17), 1: (9, 17), 2: (2, 17), 3: (3, 3), 4: (4, 4), 5: (5, 5)}
sys.exit(0 if found == through == described else "CHANGED: not as described in this script")
PYTHON
