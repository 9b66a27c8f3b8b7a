"""Static embeddings: how many texts a second, and how many times faster than model2vec's own encode?

all-MiniLM-L6-v2 is distilled by model2vec and saved as its folder (or --model names such a folder); that one folder is
what model2vec encodes with, what sentence-transformers loads, and what is compiled. All run in this one process, in
turns, on the same texts. The vectors are compared as well: model2vec leaves unknown tokens out and cuts at 512 tokens,
sentence-transformers and stcompile do neither.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import (
    add_model_option,
    artifacts,
    encode_of,
    machine_facts,
    model_folder,
    parser,
    run,
    sentence_transformer,
    status,
    write_json,
)
from benchmarks._speeds import add_speed_options, plot_speeds, prepared, print_speeds, speed_rows
from stcompile.compiler.timing import interleave
from stcompile.extras import require
from stcompile.runtime.encoder import Encoder

TARGETS = ("onnx-fp32", "onnx-int8")
MODEL2VEC = "model2vec"
TORCH = "sentence-transformers (torch)"


def main() -> int:
    arguments = _arguments()
    sets = prepared(arguments)
    machine = machine_facts()
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="stcompile-benchmark-") as scratch:
        model = arguments.model or _distilled(Path(scratch) / "model2vec")
        with artifacts([], model, TARGETS) as compiled:
            contenders = {MODEL2VEC: _model2vec(model), TORCH: encode_of(sentence_transformer(model))}
            for artifact in compiled:
                contenders[artifact.manifest.target] = encode_of(Encoder(artifact, threads=arguments.threads))
            for name, texts in sets.items():
                status(f"Timing {len(texts)} {name} texts, {arguments.rounds} rounds")
                calls = {who: partial(encode, texts) for who, encode in contenders.items()}
                timings = interleave(calls, arguments.rounds)
                rows = speed_rows(name, texts, timings, MODEL2VEC)
                results += [{**row, "mean_cosine_to_torch": _agreement(contenders, row["who"], texts)} for row in rows]
    print_speeds(results, MODEL2VEC, arguments.threads, arguments.rounds)
    settings = {"model": "distilled", "threads": arguments.threads, "rounds": arguments.rounds}
    write_json(arguments.json, "static", machine, settings, results)
    if arguments.plot is not None:
        plot_speeds(results, arguments.plot, f"{machine['cpu']}, threads: {arguments.threads}")
    return 0


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, "python -m benchmarks.static --short short.jsonl --long long.jsonl --json result.json")
    add_model_option(made)
    add_speed_options(made, rounds=9, limit=2000)
    return made.parse_args()


def _distilled(folder: Path) -> Path:
    status("Distilling all-MiniLM-L6-v2")
    distillation = require("model2vec.distill", "Distilling a model")
    # Its progress bar would fill the log.
    with contextlib.redirect_stderr(io.StringIO()):
        model = distillation.distill(str(model_folder(None)), device="cpu", quantize_to="float32")
    # model2vec 0.8 hands over columns where safetensors reads rows: saved as it is, the table comes back scrambled.
    model.embedding = np.ascontiguousarray(model.embedding)
    model.save_pretrained(folder)
    return folder


def _model2vec(folder: Path) -> Callable[[list[str]], Any]:
    model = require("model2vec", "Comparing with model2vec").StaticModel.from_pretrained(folder)
    # In this process, like the others: worker processes would be another contest.
    return partial(model.encode, use_multiprocessing=False)


def _agreement(contenders: dict[str, Callable[[list[str]], Any]], who: str, texts: list[str]) -> float:
    reference, found = (np.asarray(contenders[name](texts), dtype=np.float64) for name in (TORCH, who))
    lengths = np.linalg.norm(reference, axis=1) * np.linalg.norm(found, axis=1)
    cosines = np.where(lengths > 0, (reference * found).sum(axis=1) / np.where(lengths > 0, lengths, 1), 1)
    return round(float(cosines.mean()), 7)


if __name__ == "__main__":
    run(main)
