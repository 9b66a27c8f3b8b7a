"""How many texts a second become several vectors each, in how much memory, beside the libraries that made the models?

Of two kinds: a multi-vector encoder's documents, beside sentence-transformers and PyLate, and the three outputs of
bge-m3's kind in one pass, beside FlagEmbedding. Every contender runs in an environment of its own (those of
benchmarks.peers), as a process that waits for its turn: the same texts and CPUs for all, the order rotating from round
to round. What counts is the ratio within a round.

Without --model, all-MiniLM-L6-v2's network with a seeded projection to 128 numbers, or with seeded heads.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from benchmarks._common import machine_facts, model_folder, run, write_json
from benchmarks._rivals import parser_of_turns, speeds
from benchmarks.peers.contenders import REFERENCE
from benchmarks.peers.preparation import Rivals

MULTI_VECTOR, HYBRID = "multi-vector", "hybrid"

# What others are compared with.
FLAG_EMBEDDING = "FlagEmbedding fp32"
REFERENCES = {MULTI_VECTOR: REFERENCE, HYBRID: FLAG_EMBEDDING}

# Contender to its environment, its adapter, the backend whose export it reads (empty: the model itself), and options.
PEERS: dict[str, dict[str, tuple[str, str, str, dict[str, Any]]]] = {
    MULTI_VECTOR: {
        REFERENCE: ("sentence-transformers", "multi_vector_encoders", "", {}),
        "PyLate": ("pylate", "pylate_colbert", "", {}),
    },
    HYBRID: {FLAG_EMBEDDING: ("flag-embedding", "flag_embedding_m3", "", {})},
}

_HEADS = {"sparse_linear.pt": 1, "colbert_linear.pt": 0}
_LIMIT = 256


def main() -> int:
    made = parser_of_turns(
        __doc__, "python -m benchmarks.several_vectors hybrid --work ~/peers --texts short.jsonl --json hybrid.json"
    )
    made.add_argument("kind", choices=(MULTI_VECTOR, HYBRID))
    arguments = made.parse_args()
    machine = machine_facts()
    make = _colbert if arguments.kind == MULTI_VECTOR else _with_heads
    model = make(arguments.work / arguments.kind, arguments.model)
    results = speeds(_rivals(arguments.kind, model), model, arguments, REFERENCES[arguments.kind])
    settings = {"kind": arguments.kind, "model": model.name, "rounds": arguments.rounds}
    write_json(arguments.json, "several_vectors", machine, settings, {"speed": results})
    return 0


def _rivals(kind: str, model: Path) -> Rivals:
    if kind == MULTI_VECTOR:
        return Rivals("stcompile_multi_vectors", "multi_vector_encoders", PEERS[kind])
    head = torch.load(model / "colbert_linear.pt", weights_only=True)
    limit = json.loads((model / "sentence_bert_config.json").read_text(encoding="utf-8")).get("max_seq_length", _LIMIT)
    options = {"token_dim": len(head["weight"]), "max_seq_length": limit}
    peers = {who: (where, adapter, form, options) for who, (where, adapter, form, _) in PEERS[kind].items()}
    return Rivals("stcompile_hybrid", "flag_embedding_m3", peers, ("dense", "sparse", "multi_vector"))


def _colbert(folder: Path, model: str | None) -> Path:
    """As PyLate writes a folder, which sentence-transformers reads too: a network and a projection of its tokens."""
    if model is not None:
        return Path(model)
    if folder.is_dir():
        return folder
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - for this alone
    from sentence_transformers.base.modules import Dense, Transformer  # noqa: PLC0415 - the same

    torch.manual_seed(1)
    first = Transformer(str(model_folder(None)))
    tokens = "token_embeddings"
    layer = Dense(384, 128, bias=False, activation_function=torch.nn.Identity(), module_input_name=tokens)
    SentenceTransformer(modules=[first, layer], device="cpu").save(str(folder), create_model_card=False)
    listed = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    for row, path in zip(
        listed, ("sentence_transformers.models.Transformer", "pylate.models.Dense.Dense"), strict=True
    ):
        row["type"] = path
    (folder / "modules.json").write_text(json.dumps(listed), encoding="utf-8")
    # In the words of its own generation, which PyLate reads.
    limit = {"max_seq_length": _LIMIT, "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(limit), encoding="utf-8")
    linear = {"in_features": 384, "out_features": 128, "bias": False}
    activation = {"activation_function": "torch.nn.modules.linear.Identity"}
    (folder / "1_Dense" / "config.json").write_text(json.dumps({**linear, **activation}), encoding="utf-8")
    settings = {"query_prefix": "[Q] ", "document_prefix": "[D] ", "query_length": 32, "document_length": _LIMIT}
    more = {"model_type": "ColBERT", "similarity_fn_name": "MaxSim", "skiplist_words": [], "prompts": {}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps({**settings, **more}), encoding="utf-8")
    return folder


def _with_heads(folder: Path, model: str | None) -> Path:
    """A folder with both heads; a model that has none gets a copy with seeded ones."""
    source = Path(model or model_folder(None))
    if all((source / file).is_file() for file in _HEADS):
        return source
    if folder.is_dir():
        return folder
    shutil.copytree(source, folder)
    width = json.loads((folder / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    torch.manual_seed(1)
    for file, out in _HEADS.items():
        torch.save(torch.nn.Linear(width, out or width).state_dict(), folder / file)
    return folder


if __name__ == "__main__":
    run(main)
