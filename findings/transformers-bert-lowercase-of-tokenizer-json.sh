#!/usr/bin/env bash
# transformers: of one BERT folder, releases 4 and 5 read other tokens, and neither says so.
#
# Seen:      2026-11-30, transformers 4.57.6 and 5.23.0
# Input:     a tokenizer.json that lowercases in front of BERT's own normalizer, and do_lower_case: false beside it, as a
#            cased checkpoint has it that was saved with sentence-transformers' Transformer(do_lower_case=True).
# Expected:  one folder is one tokenizer, or a warning.
# Observed:  4.57.6 obeys tokenizer.json and lowercases; 5.23.0 builds the normalizer anew from the settings and does not.
# stcompile: an artifact has the tokenizer that the installed transformers made of the folder, so its vectors are those of
#            the sentence-transformers beside it.
# Output:
#   4.57.6 ['hello', 'world']
#   5.23.0 ['Hello', 'World']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/read.py" <<'PYTHON'
import json, sys
from pathlib import Path

import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "Hello", "World"]
made = Tokenizer(models.WordPiece({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
made.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.BertNormalizer(lowercase=False)])
made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
home = Path(sys.argv[1])
home.mkdir()
made.save(str(home / "tokenizer.json"))
settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "unk_token": "[UNK]", "pad_token": "[PAD]"}
settings |= {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
(home / "tokenizer_config.json").write_text(json.dumps(settings))
(home / "config.json").write_text(json.dumps({"model_type": "bert"}))
(home / "vocab.txt").write_text("\n".join(words))
found = transformers.AutoTokenizer.from_pretrained(str(home))
print(transformers.__version__, found.tokenize("Hello World"))
PYTHON
for version in 4.57.6 5.23.0; do
    "${PYTHON:-python3}" -m venv "$folder/$version"
    "$folder/$version/bin/pip" install -q "transformers==$version" 2>/dev/null
    "$folder/$version/bin/python" "$folder/read.py" "$folder/model-$version" 2>/dev/null | tee -a "$folder/seen"
done
printf "%s\n" "4.57.6 ['hello', 'world']" "5.23.0 ['Hello', 'World']" >"$folder/expected"
cmp -s "$folder/seen" "$folder/expected" || { echo CHANGED >&2; exit 1; }
