"""How many rows a second from a file of texts to a file of vectors, beside sentence-transformers' own processes?

Each contender reads the same Parquet file and writes one, in turns, on the same CPUs: `stcompile encode --input` with
one process, with one a CPU, and on Ray; `Encoder.encode_iter` over the same texts with nothing written (what can be
reached); sentence-transformers with a pool of one process a CPU, on torch and with its 8-bit ONNX file. Texts are
repeated, each time with a number of its own, until there are as many rows as asked for. What one process, several and
Ray wrote of the same rows is compared byte for byte. `--memory` draws the memory of the jobs.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks._common import (
    REPOSITORY,
    add_artifact_option,
    add_model_option,
    add_text_options,
    artifacts,
    at_least_one,
    last_line,
    machine_facts,
    model_folder,
    parser,
    print_table,
    pyplot,
    run,
    save_plot,
    status,
    text_sets,
    write_json,
)
from stcompile.errors import InputError
from stcompile.runtime.cpus import available_cpus

CHILD = Path(__file__).with_name("_bulk.py")
TARGET = "onnx-int8"
SETS = ("short", "mixed", "long")

OURS, ONE, PROCESSES, RAY = "stcompile", "stcompile, one thread", "stcompile, a process a CPU", "stcompile on Ray"
JOBS = (OURS, ONE, PROCESSES, RAY)
STREAM = "encode_iter"
TORCH, ONNX = "sentence-transformers torch", "sentence-transformers ONNX int8"

# Rows a second of ours over theirs that are promised, by contender and texts; of `encode_iter` a share.
PROMISED = {
    (STREAM, "short"): 0.97,
    (STREAM, "mixed"): 0.97,
    (ONNX, "short"): 1.4,
    (ONNX, "mixed"): 1.9,
    (TORCH, "short"): 2.4,
    (TORCH, "mixed"): 3.0,
}

_SECONDS_BETWEEN_SAMPLES = 1.0


def main() -> int:
    arguments = _arguments()
    sets = text_sets(arguments, SETS, 1_000_000)
    machine = machine_facts()
    model = model_folder(arguments.model)
    results: list[dict[str, Any]] = []
    steps: dict[str, dict[str, float]] = {}
    differing: dict[str, int] = {}
    with artifacts(arguments.artifact, model, (TARGET,)) as (artifact, *_), tempfile.TemporaryDirectory() as base:
        contenders = _contenders(arguments, model, artifact.folder)
        for name, texts in sets.items():
            source = _written(Path(base) / f"{name}.parquet", texts, arguments.rows)
            found: dict[str, list[dict[str, float]]] = {who: [] for who in contenders}
            for turn in range(arguments.rounds):
                for who, start in contenders.items():
                    status(f"{name}, round {turn + 1} of {arguments.rounds}: {who}")
                    found[who].append(start(source, Path(base) / _folder(name, turn, who)))
                jobs = [Path(base) / _folder(name, turn, who) for who in contenders if who in JOBS]
                differing[f"{name}, round {turn + 1}"] = sum(len(_differing(jobs[0], other)) for other in jobs[1:])
            results += _rows(name, arguments.rows, found)
            if arguments.stages:
                status(f"{name}: each step by itself, on one thread")
                place = {"model": artifact.folder, "input": source, "output": Path(base) / f"{name}-stages"}
                steps[name] = _child(sys.executable, {"do": "stages", "threads": 1, **place})["stages"]
    _print(results)
    for name, spent in steps.items():
        print(
            f"{name}, rows a second of one thread: "
            + ", ".join(f"{k} {arguments.rows / v:,.0f}" for k, v in spent.items())
        )
    settings = {"rows": arguments.rows, "rounds": arguments.rounds, "target": artifact.manifest.target}
    print(f"shards whose bytes differ between our jobs: {sum(differing.values())}")
    found_all = {"contenders": results, "seconds_of_steps": steps, "shards_that_differ": differing}
    write_json(arguments.json, "bulk", machine, {**settings, "processes": available_cpus()}, found_all)
    if arguments.memory is not None:
        _draw(results, arguments.memory)
    missed = [item for item in results if (ratio := item["ratio"]) is not None and ratio["median"] < item["promised"]]
    return 1 if missed or any(differing.values()) else 0


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, "python -m benchmarks.bulk --short short.jsonl --mixed mixed.jsonl --rows 20000")
    add_model_option(made)
    add_artifact_option(made, (TARGET,))
    add_text_options(made, SETS)
    made.add_argument("--rows", type=at_least_one, default=20_000, metavar="N", help="of each file (default: 20000)")
    made.add_argument(
        "--rounds", type=at_least_one, default=3, metavar="N", help="turns of each contender (default: 3)"
    )
    made.add_argument("--only", action="append", metavar="NAME", help="leave the other contenders out; may be repeated")
    made.add_argument("--ray", action="store_true", help=f"with {RAY!r}")
    made.add_argument("--stages", action="store_true", help="also time each step by itself, on one thread")
    made.add_argument("--memory", type=Path, metavar="FILE", help="draw memory over time of the jobs of files, a PNG")
    made.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help=f"where the environment of {ONNX!r} is kept; without it that contender is left out",
    )
    return made.parse_args()


Start = Callable[[Path, Path], dict[str, Any]]


def _contenders(arguments: argparse.Namespace, model: Path, artifact: Path) -> dict[str, Start]:
    cpus = available_cpus()
    found: dict[str, Start] = {
        OURS: lambda source, output: _ours(artifact, source, output, []),
        STREAM: lambda source, _: _child(sys.executable, {"do": "encode_iter", "model": artifact, "input": source}),
    }
    if cpus > 1:
        found[ONE] = lambda source, output: _ours(artifact, source, output, ["--threads", "1"])
        found[PROCESSES] = lambda source, output: _ours(artifact, source, output, ["--workers", str(cpus)])
    if arguments.ray:
        found[RAY] = lambda source, output: _ours(artifact, source, output, ["--engine", "ray"])
    theirs = {"do": "sentence_transformers", "processes": cpus, "threads": 1, "batch_size": 32}
    found[TORCH] = lambda source, output: _child(
        sys.executable, {**theirs, "model": model, "file": None, "input": source, "output": output}
    )
    if arguments.work is not None:
        python, folder, file = _prepared(model, arguments.work)
        found[ONNX] = lambda source, output: _child(
            python, {**theirs, "model": folder, "file": file, "input": source, "output": output}
        )
    unknown = sorted(set(arguments.only or ()) - found.keys())
    if unknown:
        raise InputError(f"unknown contender {unknown[0]!r}: choose from {', '.join(map(repr, found))}")
    return {name: start for name, start in found.items() if not arguments.only or name in arguments.only}


def _prepared(model: Path, work: Path) -> tuple[str, str, str]:
    """The interpreter, model folder and file of sentence-transformers' 8-bit ONNX."""
    from benchmarks.peers.contenders import CONTENDERS  # noqa: PLC0415 - imports torch
    from benchmarks.peers.preparation import Preparation  # noqa: PLC0415 - the same
    from stcompile.compiler.stack.load import load_stack  # noqa: PLC0415 - the same

    contender = CONTENDERS["ST ONNX int8"]
    ready = Preparation(model, load_stack(model), work, {}).ready(contender)
    return str(ready.python), ready.settings["model"], ready.settings["options"]["file"]


def _child(python: str, job: dict[str, Any]) -> dict[str, Any]:
    words = [python, str(CHILD), json.dumps(job, default=str)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY) if python == sys.executable else ""}
    if "threads" in job:
        # What the process reads when it starts, and hands on to its own.
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS"), str(job["threads"]))
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise InputError(f"{job['do']} failed: {last_line(done.stderr)}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _ours(artifact: Path, source: Path, output: Path, engine: Sequence[str]) -> dict[str, Any]:
    """The command as it is typed, from its start to its end, its memory sampled all the while."""
    words = [sys.executable, "-m", "stcompile", "encode", str(artifact), "--input", str(source), "--id", "id"]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*words, "--output", str(output), "--json", *engine],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    memory = []
    while process.poll() is None:
        memory.append((round(time.perf_counter() - started, 1), _resident(process.pid)))
        time.sleep(min(_SECONDS_BETWEEN_SAMPLES, 0.02 * len(memory)))
    said = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise InputError(f"{' '.join(words[1:4])} ended with {process.returncode}")
    step = -(-len(memory) // 200)
    return {
        "seconds": json.loads(said)["seconds"],
        "whole_seconds": time.perf_counter() - started,
        "peak_mb": max(used for _, used in memory),
        "memory_mb": memory[::step],
    }


def _folder(texts: str, turn: int, contender: str) -> str:
    return f"{texts}-{turn}-{contender.replace(' ', '-')}"


def _differing(one: Path, other: Path) -> set[str]:
    """Names of the shards that only one of two jobs wrote, or that hold other bytes."""
    names = {path.name for folder in (one, other) for path in folder.glob("*.parquet")}
    return {name for name in names if not _same(one / name, other / name)}


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def _resident(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0.0
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _written(path: Path, texts: Sequence[str], rows: int) -> Path:
    import pyarrow as pa  # noqa: PLC0415 - only once it is needed
    import pyarrow.parquet as pq  # noqa: PLC0415

    # A number behind each, because equal texts of a call are encoded once.
    made = [f"{texts[row % len(texts)]} {row // len(texts)}" for row in range(rows)]
    pq.write_table(pa.table({"id": range(rows), "text": made}), path, row_group_size=100_000)
    return path


def _rows(name: str, rows: int, found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A row for each contender: rows a second, and how ours compare with it, round by round."""
    results = []
    for who, runs in found.items():
        ours = found.get(OURS, [])
        ratios = [run["seconds"] / our["seconds"] for run, our in zip(runs, ours, strict=False)] if who != OURS else []
        results.append(
            {
                "texts": name,
                "contender": who,
                "rows_per_second": statistics.median(rows / run["seconds"] for run in runs),
                "seconds": [round(run["seconds"], 3) for run in runs],
                "whole_seconds": [round(run["whole_seconds"], 3) for run in runs if "whole_seconds" in run],
                "peak_mb": max(run["peak_mb"] for run in runs),
                "memory_mb": runs[-1].get("memory_mb"),
                "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
                if ratios
                else None,
                "promised": PROMISED.get((who, name), 0.0),
            }
        )
    return results


def _print(results: Sequence[dict[str, Any]]) -> None:
    print_table(
        "from a file of texts to files of vectors",
        ("texts, contender", "rows/s", "ours is so many times it", "promised", "peak MB of the process"),
        [
            (
                f"{item['texts']}: {item['contender']}",
                f"{item['rows_per_second']:,.0f}",
                "" if item["ratio"] is None else "{median:.2f} ({min:.2f}-{max:.2f})".format_map(item["ratio"]),
                f"{item['promised']:.2f}" if item["promised"] else "",
                f"{item['peak_mb']:,.0f}",
            )
            for item in results
        ],
    )


def _draw(results: Sequence[dict[str, Any]], path: Path) -> None:
    plot = pyplot()
    figure, axis = plot.subplots(figsize=(6, 3))
    for item in results:
        if item["memory_mb"]:
            seconds, used = zip(*item["memory_mb"], strict=True)
            axis.plot(seconds, used, label=f"{item['texts']}: {item['contender']}", linewidth=1)
    axis.set_xlabel("seconds")
    axis.set_ylabel("MB of the process")
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=6)
    save_plot(figure, [axis], "Memory of a job of files", path)


if __name__ == "__main__":
    run(main)
