"""Texts a second and memory of contenders that took turns, as rows and as tables."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from benchmarks._common import print_table
from benchmarks.peers.contenders import REFERENCE


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
