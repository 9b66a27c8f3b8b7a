#!/usr/bin/env bash
# transformers.js: a capital sigma at the end of a word is lowered to another letter than tokenizers lowers it to.
#
# Seen:      2026-11-30, @huggingface/transformers 4.3.2, tokenizers 0.23.3
# Input:     a tokenizer.json with a Lowercase or a lowering BertNormalizer, and the Greek word ΛΟΓΟΣ.
# Expected:  the same tokens from the same file.
# Observed:  JavaScript's toLowerCase knows the form for the end of a word, ς; tokenizers lowers letter by letter, σ. A
#            vocabulary that was learned by tokenizers has σ there alone: the word becomes another token, or [UNK].
# stcompile: nothing it could write into a file; such texts are left out of the test of transformers.js, with this reason.
# Output:
#   @huggingface/transformers 4.3.2
#   tokenizers 0.23.3
#   Lowercase: transformers.js ["[UNK]"], tokenizers ["λογοσ"]
#   BertNormalizer: transformers.js ["[UNK]"], tokenizers ["λογοσ"]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" tokenizers==0.23.3
npm install --silent --ignore-scripts --no-audit --no-fund --prefix "$folder" @huggingface/transformers@4.3.2
cat > "$folder/lower.mjs" <<'JAVASCRIPT'
import { AutoTokenizer, env } from '@huggingface/transformers';
env.allowRemoteModels = false;
const tokenizer = await AutoTokenizer.from_pretrained(process.argv[2]);
console.log(JSON.stringify(tokenizer.tokenize(process.argv[3])));
JAVASCRIPT
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

folder = Path(sys.argv[1])
word = "ΛΟΓΟΣ"
package = json.loads((folder / "node_modules/@huggingface/transformers/package.json").read_text())
print(package["name"], package["version"])
print("tokenizers", version("tokenizers"))
found = []
for name, normalizer in (("Lowercase", normalizers.Lowercase()), ("BertNormalizer", normalizers.BertNormalizer())):
    model = folder / name
    model.mkdir()
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "λογοσ": 1}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(model / "tokenizer.json"))
    (model / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}')
    (model / "config.json").write_text('{"model_type": "bert"}')
    told = subprocess.run(["node", "lower.mjs", str(model), word], cwd=folder, capture_output=True, text=True, check=True)
    theirs, ours = json.loads(told.stdout), tokenizer.encode(word).tokens
    print(f"{name}: transformers.js {json.dumps(theirs, ensure_ascii=False)}, tokenizers {json.dumps(ours, ensure_ascii=False)}")
    found.append((theirs, ours))
sys.exit(0 if found == 2 * [(["[UNK]"], ["λογοσ"])] else "CHANGED: not as described in this script")
PYTHON
