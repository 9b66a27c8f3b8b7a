"""How many texts a second does a sparse encoder encode, in how much memory, beside all else that runs its folder?

Every contender runs in an environment of its own (those of benchmarks.peers), as a process that waits for its turn: the
same texts and CPUs for all, the order rotating from round to round. What counts is the ratio within a round.

Without --model, a SPLADE in the shape of MiniLM-L6 with a vocabulary of 30,522 tokens: seeded weights, and a bias that
leaves some hundred numbers of a vector above zero, as a trained one has.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks._common import machine_facts, model_folder, run, write_json
from benchmarks._rivals import parser_of_turns, speeds
from benchmarks.peers.contenders import REFERENCE
from benchmarks.peers.preparation import Rivals

_RIVALS = Rivals(
    "stcompile_sparse",
    "sparse_encoders",
    {
        REFERENCE: ("sentence-transformers", "sparse_encoders", "", {"backend": "torch"}),
        "ST ONNX fp32": ("st-onnx", "sparse_encoders", "onnx", {"backend": "onnx", "file": "onnx/model.onnx"}),
        "ST ONNX int8": ("st-onnx", "sparse_encoders", "onnx", {"backend": "onnx", "file": "onnx/model_int8.onnx"}),
        "fastembed": ("fastembed", "fastembed_sparse", "onnx", {}),
    },
)

# Promised of onnx-int8: texts a second over those of sentence-transformers on torch, and a share of its memory.
PROMISED_SPEED, PROMISED_MEMORY = 2.0, 0.25

# The share of a vocabulary that is zero in the vectors of a trained model.
_ZEROS = 0.996


def main() -> int:
    arguments = parser_of_turns(
        __doc__, "python -m benchmarks.sparse --work ~/peers --texts short.jsonl long.jsonl --json sparse.json"
    ).parse_args()
    machine = machine_facts()
    model = Path(arguments.model or _splade(arguments.work / "splade"))
    results = speeds(_RIVALS, model, arguments)
    settings = {
        "model": model.name,
        "rounds": arguments.rounds,
        "promised": {"speed": PROMISED_SPEED, "memory": PROMISED_MEMORY},
    }
    write_json(arguments.json, "sparse", machine, settings, {"speed": results})
    return 0


def _splade(folder: Path) -> Path:
    """A masked language model of seeded weights over all-MiniLM-L6-v2's vocabulary, and SpladePooling."""
    if folder.is_dir():
        return folder
    from sentence_transformers import SparseEncoder  # noqa: PLC0415 - for this alone
    from sentence_transformers.base.modules import Transformer  # noqa: PLC0415 - the same
    from sentence_transformers.sparse_encoder.modules import SpladePooling  # noqa: PLC0415 - the same
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM  # noqa: PLC0415 - the same

    torch.manual_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(model_folder(None), model_max_length=256)
    config = BertConfig(
        vocab_size=30_522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    network: Any = BertForMaskedLM(config).eval()
    with torch.inference_mode():
        batch = tokenizer(["a text of some words about nothing in particular"], return_tensors="pt")
        logits = network(**batch).logits.amax(dim=1).flatten()
    with torch.no_grad():
        network.cls.predictions.bias.sub_(float(logits.kthvalue(int(_ZEROS * len(logits))).values))
    with tempfile.TemporaryDirectory() as checkpoint:
        network.save_pretrained(checkpoint)
        tokenizer.save_pretrained(checkpoint)
        first = Transformer(checkpoint, transformer_task="fill-mask")
        SparseEncoder(modules=[first, SpladePooling()], device="cpu").save(str(folder), create_model_card=False)
    return folder


if __name__ == "__main__":
    run(main)
