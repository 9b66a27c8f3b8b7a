#!/usr/bin/env bash
# sentence-transformers: encode_document never uses a prompt called "passage" or "corpus".
#
# Seen:      2026-11-28, sentence-transformers 6.2.0, transformers 5.23.0, torch 2.13.0
# Expected:  what the docstring of encode_document says: without prompt_name and prompt "it uses the first available
#            prompt from the following candidates: "document", "passage", "corpus" (checked in that order)".
# Observed:  a model whose only prompt is "passage" (or "corpus"), made so or loaded so, has prompts["document"] == ""
#            as well, which is put there for every model, is found first and is used: encode_document adds no prompt at
#            all. Vectors differ from encode(..., prompt_name="passage"), and nothing is said.
# stcompile: does the same, for its artifacts answer as sentence-transformers does: a model's prompts always hold
#            "document", in the order that the docstring names.
# Output:
#   sentence-transformers 6.2.0
#   the docstring names document, passage, corpus: True
#   made with 'document' alone: prompts {'query': '', 'document': 'prompt '}, encode_document uses it: True
#   loaded with 'document' alone: prompts {'query': '', 'document': 'prompt '}, encode_document uses it: True
#   made with 'passage' alone: prompts {'query': '', 'document': '', 'passage': 'prompt '}, encode_document uses it:
#       False
#   loaded with 'passage' alone: prompts {'query': '', 'document': '', 'passage': 'prompt '}, encode_document uses
#       it: False
#   made with 'corpus' alone: prompts {'query': '', 'document': '', 'corpus': 'prompt '}, encode_document uses it:
#       False
#   loaded with 'corpus' alone: prompts {'query': '', 'document': '', 'corpus': 'prompt '}, encode_document uses it:
#       False
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" \
    sentence-transformers==6.2.0 torch==2.13.0
HF_HUB_OFFLINE=1 TQDM_DISABLE=1 "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

print("sentence-transformers", version("sentence-transformers"))
tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "prompt": 1, "hello": 2}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
candidates = '``"document"``, ``"passage"``, ``"corpus"`` (checked in that order)'
documented = candidates in SentenceTransformer.encode_document.__doc__
print("the docstring names document, passage, corpus:", documented)

kept = True
for name in ("document", "passage", "corpus"):
    made = SentenceTransformer(
        modules=[StaticEmbedding(tokenizer, np.eye(3, dtype=np.float32))], prompts={name: "prompt "}, device="cpu"
    )
    made.save(f"{sys.argv[1]}/{name}", create_model_card=False)
    for how, model in (("made", made), ("loaded", SentenceTransformer(f"{sys.argv[1]}/{name}", device="cpu"))):
        used = np.array_equal(model.encode_document("hello"), model.encode("hello", prompt_name=name))
        print(f"{how} with {name!r} alone: prompts {model.prompts}, encode_document uses it: {used}")
        kept &= used == (name == "document")
sys.exit(0 if documented and kept else "CHANGED: not as described in this script")
PYTHON
