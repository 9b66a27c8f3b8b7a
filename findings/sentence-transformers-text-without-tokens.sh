#!/usr/bin/env bash
# sentence-transformers: a text without tokens encodes beside another text, and raises when it is alone.
#
# Seen:      2026-11-28, sentence-transformers 6.2.0, transformers 5.23.0, torch 2.13.0
# Input:     the empty text, and a tokenizer that adds no special tokens (decoders such as Qwen3 have such ones).
# Expected:  one answer, whoever shares the batch; or one error that names the text.
# Observed:  encode(["hello", ""]) answers zeros for "". encode("") and encode(["hello", ""], batch_size=1) raise
#            "RuntimeError: cannot reshape tensor of 0 elements ..." from inside the network: the batch has width 0.
# stcompile: gives zeros in both cases, for the runtime never runs a batch of width 0.
# Output:
#   sentence-transformers 6.2.0
#   transformers 5.23.0
#   torch 2.13.0+cpu
#   encode(["hello", ""]): (2, 16) for the empty text, all zeros: True
#   encode(""): RuntimeError: cannot reshape tensor of 0 elements into shape [1, 0, -1, 8] because the unspecified
#       dimension size -1 can be any value and is ambiguous
#   encode(["hello", ""], batch_size=1): RuntimeError: cannot reshape tensor of 0 elements into shape [1, 0, -1, 8]
#       because the unspecified dimension size -1 can be any value and is ambiguous
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

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

for name in ("sentence-transformers", "transformers", "torch"):
    print(name, version(name))
torch.manual_seed(0)
folder = f"{sys.argv[1]}/network"
symbols = ["<pad>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
tokenizer = Tokenizer(models.BPE(vocab={symbol: at for at, symbol in enumerate(symbols)}, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>").save_pretrained(folder)
config = Qwen3Config(
    vocab_size=len(symbols), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=1, head_dim=8, max_position_embeddings=64,
)  # fmt: skip
Qwen3Model(config).save_pretrained(folder)
model = SentenceTransformer(modules=[Transformer(folder), Pooling(16, "mean")], device="cpu")

together = model.encode(["hello", ""])
print('encode(["hello", ""]):', together.shape, "for the empty text, all zeros:", not together[1].any())
raised = []
for call, texts, batch_size in (('encode("")', "", 32), ('encode(["hello", ""], batch_size=1)', ["hello", ""], 1)):
    try:
        print(f"{call}:", model.encode(texts, batch_size=batch_size).shape)
    except RuntimeError as error:
        print(f"{call}: RuntimeError: {error}")
        raised.append("0 elements" in str(error))
sys.exit(0 if raised == [True, True] and not together[1].any() else "CHANGED: not as described in this script")
PYTHON
