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
    at_least_one,
    encode_of,
    interleave,
    limit_threads,
    machine_facts,
    model_folder,
    parser,
    pyplot,
    run,
    sentence_transformer,
    some_texts,
    status,
    write_json,
)
from benchmarks._speeds import plot_speeds, print_speeds, speed_rows
from stcompile.artifact import Artifact
from stcompile.errors import InputError
from stcompile.runtime.encoder import Encoder

TARGETS = ("onnx-fp32", "onnx-int8")
TORCH = "sentence-transformers (torch)"


def main() -> int:
    arguments = _arguments()
    if arguments.short is None and arguments.long is None:
        raise InputError("nothing to encode: pass --short FILE, --long FILE, or both")
    if arguments.plot is not None:
        pyplot()
    limit_threads(arguments.threads)
    sets = {
        name: some_texts(path, arguments.limit)
        for name, path in (("short", arguments.short), ("long", arguments.long))
        if path is not None
    }
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
    made.add_argument("--short", type=Path, metavar="FILE", help="short texts: one a line, or .jsonl with a field text")
    made.add_argument("--long", type=Path, metavar="FILE", help="long texts, in the same format")
    add_artifact_option(made, TARGETS)
    add_model_option(made)
    made.add_argument("--threads", type=at_least_one, default=1, help="threads of every contender (default: 1)")
    made.add_argument("--rounds", type=at_least_one, default=7, help="timed rounds (default: 7)")
    made.add_argument("--limit", type=at_least_one, default=256, help="take the first N texts of a file (default: 256)")
    made.add_argument("--plot", type=Path, metavar="FILE", help="also draw the table; needs matplotlib")
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
