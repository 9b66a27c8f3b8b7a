#!/usr/bin/env bash
# sentence-transformers: a Pegasus, Marian, Blenderbot or M2M100 checkpoint loads as an encoder of random weights.
#
# Seen:      2026-11-28, sentence-transformers 6.2.0, transformers 5.23.0, torch 2.13.0
# Input:     a folder with a whole checkpoint (encoder, decoder and head) of each, as its save_pretrained writes it.
# Expected:  SentenceTransformer(folder) encodes with the checkpoint's own encoder, as it does for T5, or raises.
# Observed:  every weight of the encoder is newly initialised, so two loads of one folder give different vectors.
#            Nothing raises. At default logging each load prints, beside a progress bar, one warning of
#            transformers.modeling_utils: the table "PegasusEncoder LOAD REPORT", in which the encoder's weights stand
#            as MISSING under one name and as UNEXPECTED under another. sentence-transformers itself says nothing.
#            The same encoder saved alone loads right, without a warning.
#            The names differ by more than what transformers adds or removes: the checkpoint has "model.encoder.layers",
#            PegasusEncoder wants "layers", and the prefix of all these classes is "model". T5 has a T5EncoderModel
#            for this, with the names of the whole. _load_encoder_only_model sets the prefix to "model.encoder" for
#            T5Gemma2 alone; that would not do here, where the token table is stored as "model.shared.weight".
#            Their own test of these classes (TestEncoderOnlySaveLoadRoundtrip, August 2026) loads a checkpoint once,
#            saves the encoder and loads that again, which random weights pass.
# stcompile: refuses such a folder and says to save the encoder alone (compiler/modules/backbone.py).
# Output:
#   sentence-transformers 6.2.0
#   transformers 5.23.0
#   torch 2.13.0+cpu
#   Pegasus whole: two loads differ by 0.1, from its encoder by 0.12 and 0.11
#     printed: warning 20 MISSING 21 UNEXPECTED
#     its encoder saved alone: differs by 0, printed: nothing
#   Marian whole: two loads differ by 0.099, from its encoder by 0.11 and 0.11
#     printed: warning 18 MISSING 18 UNEXPECTED
#     its encoder saved alone: differs by 0, printed: nothing
#   Blenderbot whole: two loads differ by 2.3, from its encoder by 1.9 and 2.6
#     printed: warning 20 MISSING 21 UNEXPECTED
#     its encoder saved alone: differs by 0, printed: nothing
#   M2M100 whole: two loads differ by 0.39, from its encoder by 0.55 and 0.45
#     printed: warning 19 MISSING 19 UNEXPECTED
#     its encoder saved alone: differs by 0, printed: nothing
#   T5 whole: two loads differ by 0, from its encoder by 0 and 0
#     printed: nothing
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" \
    sentence-transformers==6.2.0 transformers==5.23.0 torch==2.13.0
HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import logging
import sys
from importlib.metadata import version

import torch
import transformers
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, pre_tokenizers

for name in ("sentence-transformers", "transformers", "torch"):
    print(name, version(name))


class Kept(logging.Handler):
    """Keeps what would be printed; no logger's level is changed."""

    def emit(self, record):
        records.append(record)


records = []
logging.getLogger().addHandler(Kept())
logging.getLogger("transformers").addHandler(Kept())
transformers.logging.disable_default_handler()
transformers.logging.disable_progress_bar()


def save(network, folder):
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "hello": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]").save_pretrained(folder)
    network.save_pretrained(folder)
    return folder


def load(folder):
    """The vector of one text, and what loading the folder and encoding the text printed."""
    records.clear()
    found = SentenceTransformer(folder, device="cpu").encode("hello hello")
    texts = [(record.levelname.lower(), record.getMessage()) for record in records]
    counts = [(level, text.count(" MISSING "), text.count(" UNEXPECTED ")) for level, text in texts]
    return found, ", ".join("{} {} MISSING {} UNEXPECTED".format(*each) for each in counts) or "nothing"


def apart(one, other):
    return abs(one - other).max().item()


sizes = {"encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
sizes |= {name.replace("encoder", "decoder"): size for name, size in sizes.items()}
sizes |= {"d_model": 16, "max_position_embeddings": 16, "bos_token_id": 1, "forced_eos_token_id": None}
sizes_of_t5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
as_described = True
for family, name in (
    ("Pegasus", "PegasusForConditionalGeneration"),
    ("Marian", "MarianMTModel"),
    ("Blenderbot", "BlenderbotForConditionalGeneration"),
    ("M2M100", "M2M100ForConditionalGeneration"),
    ("T5", "T5ForConditionalGeneration"),
):
    settings = sizes_of_t5 if family == "T5" else sizes
    ids = {"vocab_size": 3, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    torch.manual_seed(0)
    network = getattr(transformers, name)(getattr(transformers, f"{family}Config")(**settings, **ids)).eval()
    encoder = network.get_encoder()
    with torch.no_grad():
        right = encoder(torch.tensor([[2, 2]])).last_hidden_state.mean(1)[0].numpy()
    whole = save(network, f"{sys.argv[1]}/{family}")
    (first, printed), (second, again) = load(whole), load(whole)
    differences = apart(first, second), apart(first, right), apart(second, right)
    print(family, "whole: two loads differ by {:.2g}, from its encoder by {:.2g} and {:.2g}".format(*differences))
    print("  printed:", printed)
    if family == "T5":
        as_described &= max(differences) < 1e-6 and printed == again == "nothing"
        continue
    as_described &= min(differences) > 1e-2 and printed == again
    as_described &= printed.startswith(f"warning {len(encoder.state_dict())} MISSING ")
    vector, printed = load(save(encoder, f"{sys.argv[1]}/{family}-encoder"))
    print(f"  its encoder saved alone: differs by {apart(vector, right):.2g}, printed: {printed}")
    as_described &= apart(vector, right) < 1e-6 and printed == "nothing"
sys.exit(0 if as_described else "CHANGED: not as described in this script")
PYTHON
