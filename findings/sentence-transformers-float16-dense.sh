#!/usr/bin/env bash
# sentence-transformers: a float32 Dense behind a float16 Transformer is rounded to float16 at load.
#
# Seen:      2026-11-28, sentence-transformers 6.2.0, transformers 5.23.0, torch 2.13.0
# Input:     a model folder whose Transformer is stored in float16 and whose Dense is stored in float32.
# Expected:  SentenceTransformer(folder).float() has the stored weights of the Dense, for float16 widens without loss
#            and the Dense was float32 already.
# Observed:  at load every later module is cast to the type of the first parameter (the base class's __init__), so the
#            Dense has lost 13 bits of mantissa before .float() can be called. model_kwargs={"dtype": torch.float32} at
#            load keeps them.
# stcompile: loads every weight in float32 whatever is stored, and loads the reference of its proof with that dtype.
# Output:
#   sentence-transformers 6.2.0
#   transformers 5.23.0
#   torch 2.13.0+cpu
#   stored: Transformer torch.float16 Dense torch.float32
#   loaded: Dense torch.float16
#   after .float(): largest error of the Dense's weights 0.000793
#   loaded with dtype=float32: 0
#   largest difference of a vector: 0.00016
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
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

for name in ("sentence-transformers", "transformers", "torch"):
    print(name, version(name))
torch.manual_seed(0)
network, folder = f"{sys.argv[1]}/network", f"{sys.argv[1]}/model"
tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "hello": 2}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]").save_pretrained(network)
config = BertConfig(vocab_size=3, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
BertModel(config).half().save_pretrained(network)
built = SentenceTransformer(modules=[Transformer(network), Pooling(16, "mean"), Dense(16, 8)], device="cpu")
built.save(folder, create_model_card=False)
stored = {"linear.weight": torch.randn(8, 16), "linear.bias": torch.randn(8)}
save_file(stored, f"{folder}/2_Dense/model.safetensors", metadata={"format": "pt"})

network_type = next(iter(load_file(f"{folder}/model.safetensors").values())).dtype
print("stored: Transformer", network_type, "Dense", stored["linear.weight"].dtype)


def error(model):
    return (model[2].linear.weight - stored["linear.weight"]).abs().max().item()


by_default = SentenceTransformer(folder, device="cpu")
print("loaded: Dense", by_default[2].linear.weight.dtype)
widened = by_default.float()
asked = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": torch.float32})
print(f"after .float(): largest error of the Dense's weights {error(widened):.3g}")
print(f"loaded with dtype=float32: {error(asked):.3g}")
print(f"largest difference of a vector: {abs(widened.encode('hello') - asked.encode('hello')).max():.3g}")
sys.exit(0 if error(widened) > 1e-5 and error(asked) == 0 else "CHANGED: not as described in this script")
PYTHON
