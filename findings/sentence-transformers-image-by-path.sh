#!/usr/bin/env bash
# sentence-transformers: one photograph has two vectors, by its path and opened.
#
# Seen:      2026-11-30, sentence-transformers 6.2.0, transformers 5.23.0, Pillow 13.0.0
# Input:     a CLIP of random weights; a JPEG whose EXIF data say that it lies on its side, as telephones write them.
# Expected:  encode(["photo.jpg"]) and encode([PIL.Image.open("photo.jpg")]) are one vector.
# Observed:  by its path the image is turned by its EXIF orientation, opened it is not; without EXIF data both are one.
#            Likewise a transparent PNG, which by its path loses its alpha and opened is laid over white.
# stcompile: does both as they are done there, and docs/images.md says so.
# Output:
#   turned by EXIF: the two vectors are the same: False
#   not turned: the two vectors are the same: True
#   transparent: the two vectors are the same: False
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" \
    sentence-transformers==6.2.0 transformers==5.23.0 pillow==13.0.0 torch
HF_HUB_OFFLINE=1 TQDM_DISABLE=1 "$folder/venv/bin/python" - "$folder" 2>/dev/null <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast

home = Path(sys.argv[1])
torch.manual_seed(0)
words = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "photo": 3}
made = Tokenizer(models.WordLevel(words, unk_token="<|endoftext|>"))
made.pre_tokenizer = pre_tokenizers.Whitespace()
ends = [("<|startoftext|>", 0), ("<|endoftext|>", 1)]
made.post_processor = processors.TemplateProcessing(single="<|startoftext|> $A <|endoftext|>", special_tokens=ends)
names = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=16, unk_token="<|endoftext|>", **names)
sides = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
text = {**sides, "vocab_size": 4, "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1}
config = CLIPConfig(text_config=text, vision_config={**sides, "image_size": 32, "patch_size": 8}, projection_dim=16)
CLIPModel(config).save_pretrained(home / "clip")
square = {"height": 32, "width": 32}
CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=square), tokenizer).save_pretrained(home / "clip")
model = SentenceTransformer(str(home / "clip"), device="cpu")

pixels = np.zeros((48, 64, 3), np.uint8)
pixels[:20, :, 0], pixels[:, 40:, 2] = 255, 255
exif = Image.Exif()
exif[0x0112] = 6
Image.fromarray(pixels).save(home / "turned.jpg", exif=exif)
Image.fromarray(pixels).save(home / "plain.jpg")
alpha = np.full((48, 64, 1), 90, np.uint8)
Image.fromarray(np.concatenate([pixels, alpha], axis=2)).save(home / "clear.png")
seen = []
for what, file in (("turned by EXIF", "turned.jpg"), ("not turned", "plain.jpg"), ("transparent", "clear.png")):
    by_path = model.encode([str(home / file)])[0]
    with Image.open(home / file) as opened:
        by_image = model.encode([opened])[0]
    seen.append(bool(np.allclose(by_path, by_image, atol=1e-4 * np.abs(by_path).max())))
    print(f"{what}: the two vectors are the same: {seen[-1]}")
sys.exit(0 if seen == [False, True, False] else "CHANGED: not as described in this script")
PYTHON
