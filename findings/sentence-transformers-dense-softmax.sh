#!/usr/bin/env bash
# sentence-transformers: a saved Dense forgets its activation's arguments, and a Softmax over tokens then mixes texts.
#
# Seen:      2026-12-01, sentence-transformers 6.2.0, torch 2.13.0
# Input:     a model whose Dense over token embeddings has Softmax(dim=-1), saved and loaded again.
# Expected:  the vectors that it had before, or an error at save.
# Observed:  the folder holds the class's name alone, so the loaded activation is Softmax(), for which torch takes the
#            first axis of three, which is that of the texts: other vectors, and one text has another vector beside
#            another text. torch warns of it; nothing else does.
# stcompile: refuses such an activation over tokens by name.
# Output:
#   sentence-transformers 6.2.0
#   torch 2.13.0+cpu
#   loaded: Softmax(dim=None)
#   saved and loaded: largest difference 0.95
#   alone and beside another text, before saving: 1.49e-08
#   alone and beside another text, loaded: 0.719
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" \
    sentence-transformers==6.2.0 torch==2.13.0
HF_HUB_OFFLINE=1 TQDM_DISABLE=1 "$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import sys
from importlib.metadata import version

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

for name in ("sentence-transformers", "torch"):
    print(name, version(name))
torch.manual_seed(0)
network, folder = f"{sys.argv[1]}/network", f"{sys.argv[1]}/model"
words = {"[PAD]": 0, "[UNK]": 1, "hello": 2, "world": 3}
tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]").save_pretrained(network)
config = BertConfig(vocab_size=4, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
BertModel(config).save_pretrained(network)
dense = Dense(
    16,
    8,
    activation_function=torch.nn.Softmax(dim=-1),
    module_input_name="token_embeddings",
    module_output_name="token_embeddings",
)
built = SentenceTransformer(modules=[Transformer(network), dense, Pooling(8, "mean")], device="cpu").eval()
built.save(folder, create_model_card=False)
loaded = SentenceTransformer(folder, device="cpu")
print("loaded:", loaded[1].activation_function)


def apart(one, other):
    return float(abs(one - other).max())


def with_company(model):
    return apart(model.encode("hello"), model.encode(["hello", "world"])[0])


changed, before, after = apart(built.encode("hello"), loaded.encode("hello")), with_company(built), with_company(loaded)
print(f"saved and loaded: largest difference {changed:.3g}")
print(f"alone and beside another text, before saving: {before:.3g}")
print(f"alone and beside another text, loaded: {after:.3g}")
sys.exit(0 if changed > 0.1 and before < 1e-6 < 0.1 < after else "CHANGED: not as described in this script")
PYTHON
