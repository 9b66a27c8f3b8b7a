#!/usr/bin/env bash
# sentence-transformers: SparseStaticEmbedding forgets a token that a text has, where a longer text shares its batch.
#
# Seen:      2026-11-29, sentence-transformers 6.2.0, transformers 5.23.0
# Input:     a SparseStaticEmbedding over four words that pads with the unknown token, as tokenizers without a padding token
#            of their own are often told to; every token weighs something. "hello strange" has an unknown word.
# Expected:  the same vector whatever is in the batch: a position that is padding is masked.
# Observed:  alone both tokens have their weight; beside a longer text the unknown one is zero. The mask is written into a row
#            of zeros at the place of each token (scatter_), and the padding behind the text writes 0 over its 1.
# stcompile: the vector of the text alone, in every batch.
# Output:
#   sentence-transformers 6.2.0, transformers 5.23.0
#   alone: hello 2.0, <unk> 1.0
#   beside a longer text: hello 2.0, <unk> 0.0
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" \
    sentence-transformers==6.2.0 transformers==5.23.0 torch
cat > "$folder/script.py" <<'PYTHON'
import sys
from importlib.metadata import version

import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

words = Tokenizer(models.WordLevel({"<unk>": 0, "hello": 1, "again": 2, "and": 3}, "<unk>"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", pad_token="<unk>")
weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
encoder = SparseEncoder(modules=[SparseStaticEmbedding(tokenizer, weight=weights, frozen=True)], device="cpu")
print(f"sentence-transformers {version('sentence-transformers')}, transformers {version('transformers')}")
alone = encoder.encode(["hello strange"]).to_dense()[0].tolist()
beside = encoder.encode(["hello strange", "hello and hello again and again"]).to_dense()[0].tolist()
for name, row in (("alone", alone), ("beside a longer text", beside)):
    print(f"{name}: hello {row[1]}, <unk> {row[0]}")
described = alone[:2] == [1.0, 2.0] and beside[:2] == [0.0, 2.0]
sys.exit(0 if described else "CHANGED: not as described in this script")
PYTHON
HF_HUB_OFFLINE=1 HF_HOME="$folder/cache" TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1 \
    "$folder/venv/bin/python" "$folder/script.py"
