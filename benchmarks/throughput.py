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
    Spread,
    Timing,
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
    print_table,
    pyplot,
    run,
    sentence_transformer,
    some_texts,
    speedup,
    status,
    write_json,
)
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
            results += _rows(name, texts, timings)
    settings = {
        "model": model.name,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "batch_size": BATCH_SIZE,
    }
    _print(results, arguments.threads, arguments.rounds)
    write_json(arguments.json, "throughput", machine, settings, results)
    if arguments.plot is not None:
        _plot(results, arguments.plot, f"{machine['cpu']}, threads: {arguments.threads}")
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


def _rows(name: str, texts: list[str], timings: dict[str, Timing]) -> list[dict[str, Any]]:
    baseline = timings[TORCH]
    return [
        {
            "texts": name,
            "count": len(texts),
            "mean_characters": round(sum(map(len, texts)) / len(texts), 1),
            "who": who,
            "texts_per_second": round(len(texts) / Spread.of(timing.wall).median, 2),
            "texts_per_cpu_second": round(len(texts) / Spread.of(timing.cpu).median, 2),
            "ratio_wall": speedup(baseline.wall, timing.wall).to_dict(3),
            "ratio_cpu": speedup(baseline.cpu, timing.cpu).to_dict(3),
        }
        for who, timing in timings.items()
    ]


def _print(results: Sequence[dict[str, Any]], threads: int, rounds: int) -> None:
    columns = ("who", "texts/s", "texts/CPU s", "x torch, wall (min-max)", "x torch, CPU (min-max)")
    for name in dict.fromkeys(row["texts"] for row in results):
        chosen = [row for row in results if row["texts"] == name]
        rows = [
            (
                row["who"],
                f"{row['texts_per_second']:.1f}",
                f"{row['texts_per_cpu_second']:.1f}",
                _ratio(row["ratio_wall"]),
                _ratio(row["ratio_cpu"]),
            )
            for row in chosen
        ]
        about = f"{chosen[0]['count']} {name} texts, mean {chosen[0]['mean_characters']:.0f} characters"
        print_table(f"{about}; threads: {threads}; medians of {rounds} interleaved rounds", columns, rows)


def _ratio(spread: dict[str, float]) -> str:
    return f"{spread['median']:.2f} ({spread['min']:.2f}-{spread['max']:.2f})"


def _plot(results: Sequence[dict[str, Any]], path: Path, subtitle: str) -> None:
    plt = pyplot()
    sets = list(dict.fromkeys(row["texts"] for row in results))
    figure, axes = plt.subplots(1, len(sets), figsize=(4.2 * len(sets), 3.6), squeeze=False)
    for axis, name in zip(axes[0], sets, strict=True):
        rows = [row for row in results if row["texts"] == name]
        labels = [row["who"].replace(" ", "\n") for row in rows]
        bars = axis.bar(labels, [row["texts_per_cpu_second"] for row in rows], color=["#9a9a9a", "#4878a8", "#2a9d6f"])
        axis.bar_label(bars, [f"{row['ratio_cpu']['median']:.2f}x" for row in rows], padding=2)
        axis.set_title(f"{name} texts (mean {rows[0]['mean_characters']:.0f} characters)", fontsize=10)
        axis.set_ylabel("texts per CPU second")
        axis.margins(y=0.15)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(axis="x", labelsize=8)
    figure.suptitle(subtitle, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run(main)
