#!/usr/bin/env bash
# sentence-transformers: max_seq_length cuts nothing where a model has a processor whose tokenizer stores a max_length.
#
# Seen:      2026-11-29, sentence-transformers 6.2.0, transformers 5.23.0
# Input:     a two-layer Gemma 3 with an image side, whose processor's tokenizer has model_max_length 16, without and with
#            "max_length": 40 in tokenizer_config.json (tokenizers write it there as they are saved after a call that cut).
#            A text of 100 words; then the same with max_seq_length set to 8.
# Expected:  16 and 16 tokens, then 8 and 8: the number that max_seq_length answers with.
# Observed:  16 and 40, then 8 and 40. A processor takes the max_length that is stored with its tokenizer as the default of
#            every call (ProcessorMixin._merge_kwargs), before model_max_length, which is what max_seq_length reads and
#            writes. Without a processor the stored number is of no account.
# stcompile: cuts where the processor does, and says so in the artifact's max_seq_length.
# Output:
#   sentence-transformers 6.2.0, transformers 5.23.0
#   max_length not stored: max_seq_length 16, 16 tokens; set to 8: 8 tokens
#   max_length stored: max_seq_length 16, 40 tokens; set to 8: 40 tokens
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" \
    sentence-transformers==6.2.0 transformers==5.23.0 torch pillow
cat > "$folder/script.py" <<'PYTHON'
import json
import sys
from importlib.metadata import version
from pathlib import Path

import torch
import transformers
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, pre_tokenizers

FOLDER = Path(sys.argv[1])
WORDS = ["[PAD]", "[UNK]", "<begin>", "<end>", "<image>", "word"]


def build():
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**shape, "vocab_size": len(WORDS), "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0}
    side = transformers.SiglipVisionConfig(**shape, image_size=28, patch_size=14).to_dict()
    config = transformers.Gemma3Config(text_config=text, vision_config=side, mm_tokens_per_image=4)
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).save_pretrained(FOLDER)
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.save(str(FOLDER / "tokenizer.json"))
    images = {"image_processor_type": "Gemma3ImageProcessor", "size": {"height": 28, "width": 28}}
    (FOLDER / "preprocessor_config.json").write_text(json.dumps(images))


def seen(stored):
    tokens = {"boi_token": "<begin>", "eoi_token": "<end>", "image_token": "<image>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    settings |= {"model_max_length": 16, "extra_special_tokens": tokens, **stored}
    (FOLDER / "tokenizer_config.json").write_text(json.dumps(settings))
    model = SentenceTransformer(str(FOLDER), device="cpu")

    def tokens_of_a_long_text():
        return model.preprocess(["word " * 100])["input_ids"].shape[1]

    found = [model.max_seq_length, tokens_of_a_long_text()]
    model.max_seq_length = 8
    return [*found, tokens_of_a_long_text()]


build()
print(f"sentence-transformers {version('sentence-transformers')}, transformers {version('transformers')}")
results = []
for name, stored in (("not stored", {}), ("stored", {"max_length": 40})):
    limit, first, second = found = seen(stored)
    results.append(found)
    print(f"max_length {name}: max_seq_length {limit}, {first} tokens; set to 8: {second} tokens")
sys.exit(0 if results == [[16, 16, 8], [16, 40, 40]] else "CHANGED: not as described in this script")
PYTHON
HF_HUB_OFFLINE=1 HF_HOME="$folder/cache" TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1 \
    "$folder/venv/bin/python" "$folder/script.py" "$folder/model"
