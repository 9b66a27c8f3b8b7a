"""Is it faster than everything else one could take, on this machine, and as accurate?

Every contender runs in an environment of its own, made here from PyPI, as a process that waits for its turn: the same
model, texts and CPUs for all, the order rotating from round to round. What counts is the ratio within a round. Beside
speed stand the cosine to sentence-transformers on torch, the latency of a single text, and the time from the start of
a process to its first vector. The environments stay in --work; the first run takes some ten minutes and 11 GB for them,
and npm for llama.cpp, whose builds for each CPU it carries.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks._common import (
    add_artifact_option,
    add_model_option,
    at_least_one,
    given_artifacts,
    machine_facts,
    model_folder,
    parser,
    pyplot,
    run,
    some_texts,
    status,
    write_json,
)
from benchmarks.peers.limits import int8_limit, operations_per_text
from benchmarks.peers.measures import accuracy, bulk_rows, cold_starts, latencies, written
from benchmarks.peers.preparation import Preparation, chosen_contenders, started
from benchmarks.peers.processes import timed_turns
from benchmarks.peers.report import plot_bulk, print_bulk, print_others
from stcompile.compiler.stack.load import load_stack
from stcompile.runtime.cpus import available_cpus

SETS = ("short", "mixed", "long")


def main() -> int:
    arguments = _arguments()
    sets = {name: some_texts(getattr(arguments, name), getattr(arguments, f"limit_{name}")) for name in SETS}
    if arguments.plot is not None:
        pyplot()
    model = model_folder(arguments.model)
    arguments.work.mkdir(parents=True, exist_ok=True)
    compiled = {item.manifest.target: item.folder for item in given_artifacts(arguments.artifact, model)}
    stack = load_stack(model)
    preparation = Preparation(model, stack, arguments.work.resolve(), compiled)
    ready = {name: preparation.ready(contender) for name, contender in chosen_contenders(arguments.only).items()}
    machine = machine_facts()
    length = stack.routes[""].front.max_seq_length
    needed = {name: operations_per_text(model, texts, length) for name, texts in sets.items()}
    limits = {"int8_operations_per_second": int8_limit(), "operations_per_text": needed}
    results: dict[str, Any] = {"limits": limits, "bulk": []}
    with tempfile.TemporaryDirectory(prefix="stcompile-peers-") as folder:
        files = {name: written(Path(folder) / f"{name}.json", texts) for name, texts in sets.items()}
        for cores in dict.fromkeys((1, available_cpus())):
            with started(ready, cores) as processes:
                for name in SETS:
                    status(f"Timing {len(sets[name])} {name} texts, {cores} core(s), {arguments.rounds} rounds")
                    timings = timed_turns(processes, files[name], arguments.rounds)
                    results["bulk"] += bulk_rows(name, len(sets[name]), cores, timings, limits)
                if cores == available_cpus():
                    results["latency"] = latencies(processes, sets["short"], Path(folder), arguments.singles)
                    status("Comparing vectors")
                    results["accuracy"] = accuracy(processes, sets, Path(folder), arguments.sts)
        status(f"Starting each {arguments.starts} times")
        results["cold_start"] = cold_starts(ready, Path(folder), arguments.starts, available_cpus())
    settings = {
        "model": model.name,
        "rounds": arguments.rounds,
        "texts": {name: len(texts) for name, texts in sets.items()},
        "singles": arguments.singles,
        "starts": arguments.starts,
    }
    print_bulk(results)
    print_others(results)
    write_json(arguments.json, "peers", machine, settings, results)
    if arguments.plot is not None:
        plot_bulk(results, arguments.plot, f"{model.name}; {machine['cpu']}")
    return 0


def _arguments() -> argparse.Namespace:
    made = parser(
        __doc__,
        "python -m benchmarks.peers --work ~/peers --short short.jsonl --mixed mixed.jsonl --long long.jsonl "
        "--sts stsb-test.csv --json peers.json --plot peers.png",
    )
    add_model_option(made)
    add_artifact_option(made, ("onnx-fp32", "onnx-int8", "onnx-bf16 where the CPU has it"), into="--work")
    made.add_argument("--work", type=Path, required=True, metavar="DIR", help="where environments and models are kept")
    for name, limit in zip(SETS, (512, 96, 48), strict=True):
        made.add_argument(
            f"--{name}", type=Path, required=True, metavar="FILE", help=f"{name} texts: one a line, or .jsonl"
        )
        made.add_argument(f"--limit-{name}", type=at_least_one, default=limit, help=f"how many (default: {limit})")
    made.add_argument("--sts", type=Path, metavar="FILE", help="also rank correlation with the scores of pairs")
    made.add_argument("--rounds", type=at_least_one, default=5, help="timed rounds (default: 5)")
    made.add_argument("--singles", type=at_least_one, default=60, help="single texts a turn, 5 turns (default: 60)")
    made.add_argument("--starts", type=at_least_one, default=3, help="cold starts of each (default: 3)")
    made.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="WORD",
        help="contenders with this in their name; may be repeated",
    )
    made.add_argument("--plot", type=Path, metavar="FILE", help="also draw the bulk table; needs matplotlib")
    return made.parse_args()


if __name__ == "__main__":
    run(main)
