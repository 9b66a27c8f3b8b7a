"""The four things that are measured of every contender, as rows for the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import status
from benchmarks._speeds import latency
from benchmarks.peers.contenders import CONTENDERS, DEFAULT_IS_BF16, REFERENCE
from benchmarks.peers.preparation import Ready
from benchmarks.peers.processes import Process, first_vector, take_turns
from stcompile.compiler.metrics import distance, spearman
from stcompile.compiler.scored_pairs import read_scored_pairs
from stcompile.compiler.timing import Spread, Timing, speedup
from stcompile.kernels.cpu_features import computes_bfloat16

_TURNS = 5


def bulk_rows(
    texts: str, count: int, cores: int, timings: Mapping[str, Timing], limits: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Speed of each, and the ratio to the fastest peer of its precision: above 1, stcompile is faster."""
    peers = {name: Spread.of(timing.wall).median for name, timing in timings.items() if not CONTENDERS[name].is_ours}
    rows = []
    for name, timing in timings.items():
        speed = count / Spread.of(timing.wall).median
        needed = limits["operations_per_text"][texts]
        # Who takes 8 bits could as well take more; the other way round a user has said no to it.
        allowed = [other for other in peers if _precision(name) == "int8" or _precision(other) == _precision(name)]
        peer = min(allowed, key=peers.__getitem__, default=None)
        rows.append(
            {
                "texts": texts,
                "cores": cores,
                "who": name,
                "precision": _precision(name),
                "texts_per_second": round(speed, 2),
                "texts_per_cpu_second": round(count / Spread.of(timing.cpu).median, 2),
                "fastest_peer": peer,
                "ratio_to_it": None if peer is None else speedup(timings[peer].wall, timing.wall).to_dict(3),
                "of_int8_limit": None
                if needed is None
                else round(speed * needed / (cores * limits["int8_operations_per_second"]), 3),
            }
        )
    return rows


def _precision(name: str) -> str:
    return "bf16" if name in DEFAULT_IS_BF16 and computes_bfloat16() else CONTENDERS[name].precision


def latencies(processes: Sequence[Process], texts: Sequence[str], folder: Path, singles: int) -> list[dict[str, Any]]:
    status(f"Timing {singles} single texts, {_TURNS} turns each")
    file = written(folder / "singles.json", list(texts)[:singles])
    rows = []
    for name, answers in take_turns(processes, "single", file, _TURNS).items():
        seconds = [second for answer in answers for second in answer["seconds"]]
        rows.append({"who": name, **latency(seconds)})
    return rows


def accuracy(
    processes: Sequence[Process], sets: Mapping[str, list[str]], folder: Path, sts: Path | None
) -> list[dict[str, Any]]:
    texts = [text for name in sets for text in sets[name]]
    pairs = [] if sts is None else read_scored_pairs(str(sts))
    sides = [first for first, _, _ in pairs] + [second for _, second, _ in pairs]
    file, save = written(folder / "all.json", texts + sides), folder / "vectors.npy"
    vectors = {}
    for process in processes:
        process.ask("vectors", file, save=str(save))
        vectors[process.name] = np.load(save)
    rows = []
    for name, found in vectors.items():
        cosines = distance(vectors[REFERENCE][: len(texts)], found[: len(texts)]).cosine
        row = {
            "who": name,
            "mean_cosine": round(float(cosines.mean()), 6),
            "min_cosine": round(float(cosines.min()), 6),
        }
        if pairs:
            half = len(texts) + len(pairs)
            similarities = distance(found[len(texts) : half], found[half:]).cosine
            row["sts_spearman"] = round(100 * spearman(similarities, [score for _, _, score in pairs]), 3)
        rows.append(row)
    return rows


def cold_starts(ready: Mapping[str, Ready], folder: Path, starts: int, cores: int) -> list[dict[str, Any]]:
    text = written(folder / "one.json", ["The first sentence is the one that counts."])
    seconds: dict[str, list[float]] = {name: [] for name in ready}
    for number in range(starts + 1):
        for name, item in ready.items():
            took = first_vector(name, item.python, item.on(cores), text)
            seconds[name] += [took] if number else []
    reference = seconds[REFERENCE]
    return [
        {"who": name, "seconds": Spread.of(took).to_dict(3), "times_torch": speedup(reference, took).to_dict(2)}
        for name, took in seconds.items()
    ]


def written(path: Path, texts: Sequence[str]) -> Path:
    path.write_text(json.dumps(list(texts)), encoding="utf-8")
    return path
