"""How many texts a second, and how many times faster than sentence-transformers on torch?

All contenders run in this one process, in turns, on the same texts with the same batch size and the same number of
threads. What counts is the ratio to torch within a round: the speed of the machine cancels out of it. CPU time is the
measure for one thread on a machine that others use too; with several threads look at the wall clock.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._common import (
    BATCH_SIZE,
    add_artifact_option,
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
from stcompile.artifact import Artifact
from stcompile.compiler.timing import interleave
from stcompile.errors import InputError
from stcompile.runtime.encoder import Encoder

TARGETS = ("onnx-fp32", "onnx-int8")
TORCH = "sentence-transformers (torch)"


def main() -> int:
    arguments = _arguments()
    sets = prepared(arguments)
    machine = machine_facts()
    model = model_folder(arguments.model)
    results: list[dict[str, Any]] = []
    with artifacts(arguments.artifact, model, TARGETS) as compiled:
        contenders = _contenders(model, compiled, arguments.threads)
        for name, texts in sets.items():
            status(f"Timing {len(texts)} {name} texts, {arguments.rounds} rounds")
            timings = interleave({who: partial(encode, texts) for who, encode in contenders.items()}, arguments.rounds)
            results += speed_rows(name, texts, timings, TORCH)
    settings = {
        "model": model.name,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "batch_size": BATCH_SIZE,
    }
    print_speeds(results, "torch", arguments.threads, arguments.rounds)
    write_json(arguments.json, "throughput", machine, settings, results)
    if arguments.plot is not None:
        plot_speeds(results, arguments.plot, f"{machine['cpu']}, threads: {arguments.threads}")
    return 0


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, "python -m benchmarks.throughput --short short.jsonl --long long.jsonl --json result.json")
    add_artifact_option(made, TARGETS)
    add_model_option(made)
    add_speed_options(made, rounds=7, limit=256)
    return made.parse_args()


def _contenders(model: Path, compiled: Sequence[Artifact], threads: int) -> dict[str, Callable[[list[str]], Any]]:
    found = {TORCH: encode_of(sentence_transformer(model))}
    for artifact in compiled:
        name = artifact.manifest.target
        if name in found:
            raise InputError(f"two artifacts are both {name}: compare them in two runs")
        found[name] = encode_of(Encoder(artifact, threads=threads))
    return found


if __name__ == "__main__":
    run(main)
