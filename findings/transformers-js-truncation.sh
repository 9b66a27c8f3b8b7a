#!/usr/bin/env bash
# transformers.js: a text that is cut loses its last special token.
#
# Seen:      2026-11-30, @huggingface/transformers 4.3.2, transformers 5.23.0
# Input:     a tokenizer that adds [CLS] and [SEP], with a limit of 6 tokens; a text of 9 words; `truncation: true`, with
#            the limit from model_max_length, or passed as max_length.
# Expected:  as transformers cuts it: the words are cut, [CLS] and [SEP] stay.
# Observed:  the finished row of ids is cut behind, so that [SEP] is gone and one word more is there. What pools the last
#            token, or was trained with the end in its place, gives another vector; nothing is said.
# stcompile: docs/elsewhere.md has eight lines that put it back; the layout of transformers.js is tested with them.
# Output:
#   @huggingface/transformers 4.3.2
#   transformers 5.23.0
#   whole: transformers.js [2,4,4,4,4,4,4,4,4,4,3], transformers [2,4,4,4,4,4,4,4,4,4,3]
#   cut to 6: transformers.js [2,4,4,4,4,4], transformers [2,4,4,4,4,3]
#   cut to 6 in a batch: transformers.js [2,4,4,4,4,4], transformers [2,4,4,4,4,3]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" transformers==5.23.0
npm install --silent --ignore-scripts --no-audit --no-fund --prefix "$folder" @huggingface/transformers@4.3.2
cat > "$folder/cut.mjs" <<'JAVASCRIPT'
import { AutoTokenizer, env } from '@huggingface/transformers';
env.allowRemoteModels = false;
const tokenizer = await AutoTokenizer.from_pretrained(process.argv[2]);
const text = Array(9).fill('dog').join(' ');
const rows = (texts, options) => tokenizer(texts, { return_tensor: false, ...options }).input_ids;
console.log(JSON.stringify([
  rows(text, { truncation: false }),
  rows(text, { truncation: true }),
  rows([text, text], { truncation: true, max_length: 6 })[1],
]));
JAVASCRIPT
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer

folder = Path(sys.argv[1])
model = folder / "model"
model.mkdir()
names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "dog"]
tokenizer = Tokenizer(models.WordPiece({name: place for place, name in enumerate(names)}, unk_token="[UNK]"))
tokenizer.add_special_tokens(names[:4])
tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
tokenizer.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
)
tokenizer.save(str(model / "tokenizer.json"))
settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 6, "pad_token": "[PAD]"}
(model / "tokenizer_config.json").write_text(json.dumps(settings))
(model / "config.json").write_text('{"model_type": "bert"}')

package = json.loads((folder / "node_modules/@huggingface/transformers/package.json").read_text())
print(package["name"], package["version"])
print("transformers", version("transformers"))
told = subprocess.run(["node", "cut.mjs", str(model)], cwd=folder, capture_output=True, text=True, check=True)
theirs = json.loads(told.stdout)
own = AutoTokenizer.from_pretrained(model)
text = " ".join(["dog"] * 9)
ours = [
    own(text)["input_ids"],
    own(text, truncation=True)["input_ids"],
    own([text, text], truncation=True, max_length=6)["input_ids"][1],
]
for what, one, other in zip(("whole", "cut to 6", "cut to 6 in a batch"), theirs, ours, strict=True):
    print(f"{what}: transformers.js {json.dumps(one, separators=(',', ':'))}, transformers {json.dumps(other, separators=(',', ':'))}")
cut, kept = [2, 4, 4, 4, 4, 4], [2, 4, 4, 4, 4, 3]
described = theirs == [ours[0], cut, cut] and ours[1:] == [kept, kept]
sys.exit(0 if described else "CHANGED: not as described in this script")
PYTHON
