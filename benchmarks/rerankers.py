"""How many pairs a second does a reranker score, beside everything else that runs the same folder?

Every contender runs in an environment of its own (those of benchmarks.peers), as a process that waits for its turn: the
same pairs and CPUs for all, the order rotating from round to round. What counts is the ratio within a round. Beside
speed stands how far a contender's order is from sentence-transformers' on torch: the correlation of logits.

Without --model, a reranker in the shape of ms-marco-MiniLM-L6: the network of all-MiniLM-L6-v2 with a seeded head; or,
with --shape xlm-r-base, one of seeded weights in that of bge-reranker-base.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks._common import (
    add_model_option,
    at_least_one,
    machine_facts,
    model_folder,
    parser,
    print_table,
    run,
    status,
    write_json,
)
from benchmarks.peers.contenders import REFERENCE
from benchmarks.peers.preparation import Rivals, started
from benchmarks.peers.processes import Process, timed_turns
from stcompile.errors import InputError
from stcompile.runtime.cpus import available_cpus

_FP32, _INT8, _XML = "onnx/model.onnx", "onnx/model_int8.onnx", "openvino/openvino_model.xml"

_RIVALS = Rivals(
    "stcompile_reranker",
    "cross_encoders",
    {
        REFERENCE: ("sentence-transformers", "cross_encoders", "", {"backend": "torch"}),
        "ST ONNX fp32": ("st-onnx", "cross_encoders", "onnx", {"backend": "onnx", "file": _FP32}),
        "ST ONNX int8": ("st-onnx", "cross_encoders", "onnx", {"backend": "onnx", "file": _INT8}),
        "ST OpenVINO": ("st-openvino", "cross_encoders", "openvino", {"backend": "openvino", "file": _XML}),
        "fastembed fp32": ("fastembed", "fastembed_reranker", "onnx", {"file": _FP32}),
        "fastembed int8": ("fastembed", "fastembed_reranker", "onnx", {"file": _INT8}),
        "infinity fp32": ("infinity", "infinity_reranker", "onnx", {"file": _FP32}),
        "infinity int8": ("infinity", "infinity_reranker", "onnx", {"file": _INT8}),
    },
)

# Pairs a second of onnx-int8 over the fastest peer that are promised.
PROMISED = 1.6


def main() -> int:
    arguments = _arguments()
    machine = machine_facts()
    with tempfile.TemporaryDirectory(prefix="stcompile-rerankers-") as scratch:
        sets = {name: _written(Path(scratch) / f"{name}.json", pairs) for name, pairs in _pairs(arguments).items()}
        shape = SHAPES[arguments.shape]
        model = arguments.model or str(shape.made(arguments.work / f"reranker-{arguments.shape}"))
        rivals = _RIVALS if arguments.model else replace(_RIVALS, accepted=shape.accepted)
        ready = rivals.ready(Path(model), arguments.work.resolve(), arguments.only)
        results: list[dict[str, Any]] = []
        for cores in dict.fromkeys((1, available_cpus())):
            with started(ready, cores) as processes:
                for name, file in sets.items():
                    status(f"Scoring {name} pairs, {cores} core(s), {arguments.rounds} rounds")
                    timings = timed_turns(processes, file, arguments.rounds)
                    count = len(json.loads(file.read_text(encoding="utf-8")))
                    results += _rows(name, count, cores, timings)
                if cores == 1:
                    agreement = _agreement(processes, sets["short"], Path(scratch))
    _print(results, agreement)
    settings = {"model": Path(model).name, "rounds": arguments.rounds, "promised": PROMISED}
    write_json(arguments.json, "rerankers", machine, settings, {"speed": results, "correlation": agreement})
    return 0


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, "python -m benchmarks.rerankers --work ~/peers --data scifact --json rerankers.json")
    add_model_option(made)
    made.add_argument("--shape", choices=SHAPES, default="minilm-l6", help="without --model (default: minilm-l6)")
    made.add_argument("--work", metavar="DIR", type=Path, required=True, help="where environments and models are kept")
    made.add_argument(
        "--data", metavar="DIR", type=Path, required=True, help="a folder with queries.jsonl and corpus.jsonl"
    )
    made.add_argument("--limit", type=at_least_one, default=128, help="pairs of each set (default: 128)")
    made.add_argument("--rounds", type=at_least_one, default=4, help="timed rounds (default: 4)")
    made.add_argument("--only", metavar="WORD", action="append", default=[], help="peers with this in their name")
    return made.parse_args()


def _pairs(arguments: argparse.Namespace) -> dict[str, list[list[str]]]:
    """Queries with titles, and with whole abstracts."""
    rows = [
        [json.loads(line) for line in (arguments.data / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in ("queries", "corpus")
    ]
    if not all(rows):
        raise InputError(f"{arguments.data} has no queries or no documents")
    chosen = [(rows[0][i % len(rows[0])], rows[1][i % len(rows[1])]) for i in range(arguments.limit)]
    return {
        "short": [[query["text"], document["title"]] for query, document in chosen],
        "long": [[query["text"], document["text"]] for query, document in chosen],
    }


def _written(path: Path, pairs: list[list[str]]) -> Path:
    path.write_text(json.dumps(pairs), encoding="utf-8")
    return path


def like_ms_marco(folder: Path) -> Path:
    """all-MiniLM-L6-v2's network and tokenizer with a head of seeded weights that scores."""
    if folder.is_dir():
        return folder
    from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: PLC0415 - for this alone

    source = model_folder(None)
    torch.manual_seed(1)
    network = AutoModelForSequenceClassification.from_pretrained(source, num_labels=1)
    torch.nn.init.normal_(network.classifier.weight, std=0.5)
    network.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, model_max_length=512).save_pretrained(folder)
    return folder


def like_bge_reranker_base(folder: Path) -> Path:
    """XLM-RoBERTa-base's network of 278M seeded weights, with all-MiniLM-L6-v2's tokenizer, and a head that scores."""
    if folder.is_dir():
        return folder
    from transformers import (  # noqa: PLC0415 - for this alone
        AutoTokenizer,
        PreTrainedTokenizerFast,
        XLMRobertaConfig,
        XLMRobertaForSequenceClassification,
    )

    torch.manual_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(model_folder(None), model_max_length=512)
    config = XLMRobertaConfig(
        vocab_size=250_002, max_position_embeddings=514, type_vocab_size=1, num_labels=1, pad_token_id=0
    )
    network = XLMRobertaForSequenceClassification(config)
    network.save_pretrained(folder)
    # One kind of token, where BERT's tokenizer tells of two.
    special = {name: getattr(tokenizer, name) for name in ("pad_token", "cls_token", "sep_token", "unk_token")}
    names = ["input_ids", "attention_mask"]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, model_max_length=512, model_input_names=names, **special
    ).save_pretrained(folder)
    # Releases of transformers before 5 do not know the name that 5 writes.
    settings = folder / "tokenizer_config.json"
    known = {**json.loads(settings.read_text("utf-8")), "tokenizer_class": "PreTrainedTokenizerFast"}
    settings.write_text(json.dumps(known), encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Shape:
    """A reranker of seeded weights.

    Attributes:
        made: writes its folder, where there is none yet.
        accepted: least cosine of its scores; None takes the target's.
    """

    made: Callable[[Path], Path]
    accepted: float | None = None


SHAPES = {
    "minilm-l6": Shape(like_ms_marco),
    # Its scores of a query hardly differ.
    "xlm-r-base": Shape(like_bge_reranker_base, accepted=0.9),
}


def _rows(name: str, count: int, cores: int, timings: Mapping[str, Any]) -> list[dict[str, Any]]:
    peers = {who: timing for who, timing in timings.items() if not who.startswith("stcompile")}
    fastest = min(peers, key=lambda who: median(peers[who].wall))
    return [
        {
            "pairs": name,
            "cores": cores,
            "who": who,
            "pairs_per_second": round(count / median(timing.wall), 1),
            "fastest_peer": fastest,
            "ratio_to_it": round(
                median([peer / own for peer, own in zip(peers[fastest].wall, timing.wall, strict=True)]), 3
            ),
        }
        for who, timing in timings.items()
    ]


def _agreement(processes: list[Process], pairs: Path, folder: Path) -> dict[str, float]:
    """Correlation of each contender's logits with those of torch."""
    found = {}
    for process in processes:
        path = folder / "scores.npy"
        process.ask("vectors", pairs, save=str(path))
        found[process.name] = np.load(path).reshape(-1)
    return {name: round(float(np.corrcoef(scores, found[REFERENCE])[0, 1]), 6) for name, scores in found.items()}


def _print(results: list[dict[str, Any]], agreement: Mapping[str, float]) -> None:
    for name, cores in dict.fromkeys((row["pairs"], row["cores"]) for row in results):
        rows = [
            (row["who"], f"{row['pairs_per_second']:.1f}", f"{row['ratio_to_it']:.2f}", f"{agreement[row['who']]:.5f}")
            for row in results
            if (row["pairs"], row["cores"]) == (name, cores)
        ]
        fastest = next(row["fastest_peer"] for row in results if row["pairs"] == name)
        print_table(
            f"{name} pairs, {cores} core(s)", ("who", "pairs/s", f"x {fastest}", "correlation with torch"), rows, ()
        )


if __name__ == "__main__":
    run(main)
