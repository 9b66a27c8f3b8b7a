"""Texts a second and memory of contenders that take turns, as rows and as tables."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._common import add_model_option, at_least_one, parser, print_table, status
from benchmarks.peers.contenders import REFERENCE
from benchmarks.peers.preparation import Rivals, started
from benchmarks.peers.processes import take_turns
from stcompile.runtime.cpus import available_cpus


def parser_of_turns(about: str | None, example: str) -> argparse.ArgumentParser:
    """The options of a benchmark that `speeds` measures."""
    made = parser(about, example)
    add_model_option(made)
    made.add_argument("--work", metavar="DIR", type=Path, required=True, help="where environments and models are kept")
    made.add_argument("--texts", metavar="FILE", nargs="+", required=True, help="JSONL with a field `text`")
    made.add_argument("--limit", type=at_least_one, default=128, help="texts of each file (default: 128)")
    made.add_argument("--rounds", type=at_least_one, default=3, help="timed rounds (default: 3)")
    made.add_argument("--only", metavar="WORD", action="append", default=[], help="peers with this in their name")
    return made


def speeds(
    rivals: Rivals, model: Path, arguments: argparse.Namespace, reference: str = REFERENCE
) -> list[dict[str, Any]]:
    """Rows of all contenders, for each file of texts and number of cores; prints them as tables.

    Args:
        rivals: who takes part.
        model: the folder that all run.
        arguments: as of `parser_of_turns`.
        reference: who all are compared with, beside the fastest peer.
    """
    ready = rivals.ready(model, arguments.work.resolve(), arguments.only)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="stcompile-turns-") as scratch:
        for cores in dict.fromkeys((1, available_cpus())):
            for name in arguments.texts:
                lines = Path(name).read_text(encoding="utf-8").splitlines()[: arguments.limit]
                file = Path(scratch) / "texts.json"
                file.write_text(json.dumps([json.loads(line)["text"] for line in lines]), encoding="utf-8")
                status(f"Encoding {Path(name).stem}, {cores} core(s), {arguments.rounds} rounds")
                # Anew for each set: what a process has held at most stays.
                with started(ready, cores) as processes:
                    answers = take_turns(processes, "encode", file, arguments.rounds)
                results += rows_of(Path(name).stem, len(lines), cores, answers, reference)
    print_rows(results, reference)
    return results


def rows_of(
    name: str, count: int, cores: int, answers: Mapping[str, list[dict[str, Any]]], reference: str = REFERENCE
) -> list[dict[str, Any]]:
    """What every contender's answers to one set of texts come to, beside the fastest peer's and the reference's."""
    walls = {who: [answer["wall"] for answer in given] for who, given in answers.items()}
    peaks = {who: max(answer["peak_mb"] for answer in given) for who, given in answers.items()}
    fastest = min((who for who in walls if not who.startswith("stcompile")), key=lambda who: median(walls[who]))

    def ratio(to: str, who: str) -> float:
        return round(float(median([peer / own for peer, own in zip(walls[to], walls[who], strict=True)])), 3)

    return [
        {
            "texts": name,
            "cores": cores,
            "who": who,
            "texts_per_second": round(count / median(walls[who]), 1),
            "peak_mb": round(peaks[who]),
            "fastest_peer": fastest,
            "ratio_to_it": ratio(fastest, who),
            "ratio_to_torch": ratio(reference, who),
            "memory_to_torch": round(peaks[who] / peaks[reference], 3) if peaks[reference] else None,
        }
        for who in answers
    ]


def print_rows(results: list[dict[str, Any]], reference: str = REFERENCE) -> None:
    """A table for each set of texts and number of cores."""
    for name, cores in dict.fromkeys((row["texts"], row["cores"]) for row in results):
        rows = [
            (
                row["who"],
                f"{row['texts_per_second']:.1f}",
                f"{row['ratio_to_it']:.2f}",
                f"{row['ratio_to_torch']:.2f}",
                f"{row['peak_mb']}",
            )
            for row in results
            if (row["texts"], row["cores"]) == (name, cores)
        ]
        fastest = next(row["fastest_peer"] for row in results if (row["texts"], row["cores"]) == (name, cores))
        print_table(
            f"{name}, {cores} core(s)", ("who", "texts/s", f"x {fastest}", f"x {reference}", "peak MB"), rows, ()
        )
