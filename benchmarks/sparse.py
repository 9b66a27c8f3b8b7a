"""How many texts a second does a sparse encoder encode, in how much memory, beside all else that runs its folder?

Every contender runs in an environment of its own (those of benchmarks.peers), as a process that waits for its turn: the
same texts and CPUs for all, the order rotating from round to round. What counts is the ratio within a round.

Without --model, a SPLADE in the shape of MiniLM-L6 with a vocabulary of 30,522 tokens: seeded weights, and a bias that
leaves some hundred numbers of a vector above zero, as a trained one has.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks._common import (
    add_model_option,
    at_least_one,
    machine_facts,
    model_folder,
    parser,
    run,
    status,
    write_json,
)
from benchmarks._rivals import print_rows, rows_of
from benchmarks.peers.contenders import REFERENCE
from benchmarks.peers.preparation import Rivals, started
from benchmarks.peers.processes import take_turns
from stcompile.runtime.cpus import available_cpus

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
    arguments = _arguments()
    machine = machine_facts()
    with tempfile.TemporaryDirectory(prefix="stcompile-sparse-") as scratch:
        model = Path(arguments.model or _splade(arguments.work / "splade"))
        ready = _RIVALS.ready(model, arguments.work.resolve(), arguments.only)
        results: list[dict[str, Any]] = []
        for cores in dict.fromkeys((1, available_cpus())):
            for name in arguments.texts:
                lines = Path(name).read_text(encoding="utf-8").splitlines()[: arguments.limit]
                file = Path(scratch) / "texts.json"
                file.write_text(json.dumps([json.loads(line)["text"] for line in lines]), encoding="utf-8")
                status(f"Encoding {Path(name).stem}, {cores} core(s), {arguments.rounds} rounds")
                # Anew for each set: what a process has held at most stays.
                with started(ready, cores) as processes:
                    answers = take_turns(processes, "encode", file, arguments.rounds)
                results += rows_of(Path(name).stem, len(lines), cores, answers)
    print_rows(results)
    settings = {
        "model": model.name,
        "rounds": arguments.rounds,
        "promised": {"speed": PROMISED_SPEED, "memory": PROMISED_MEMORY},
    }
    write_json(arguments.json, "sparse", machine, settings, {"speed": results})
    return 0


def _arguments() -> argparse.Namespace:
    made = parser(
        __doc__, "python -m benchmarks.sparse --work ~/peers --texts short.jsonl long.jsonl --json sparse.json"
    )
    add_model_option(made)
    made.add_argument("--work", metavar="DIR", type=Path, required=True, help="where environments and models are kept")
    made.add_argument("--texts", metavar="FILE", nargs="+", required=True, help="JSONL with a field `text`")
    made.add_argument("--limit", type=at_least_one, default=128, help="texts of each file (default: 128)")
    made.add_argument("--rounds", type=at_least_one, default=3, help="timed rounds (default: 3)")
    made.add_argument("--only", metavar="WORD", action="append", default=[], help="peers with this in their name")
    return made.parse_args()


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
