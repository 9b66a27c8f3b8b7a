"""Speeds of several contenders as rows, a table and a plot."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import (
    add_text_options,
    at_least_one,
    limit_threads,
    print_table,
    pyplot,
    save_plot,
    spread_text,
    text_sets,
)
from stcompile.compiler.timing import Spread, Timing, speedup

SETS = ("short", "long")

_COLOURS = ("#9a9a9a", "#4878a8", "#2a9d6f", "#c98a3d")


def latency(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile of single waits, in milliseconds."""
    p50, p99 = 1000 * np.percentile(seconds, (50, 99))
    return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}


def add_speed_options(to: argparse.ArgumentParser, *, rounds: int, limit: int, sets: Sequence[str] = SETS) -> None:
    """The texts to encode, and how often."""
    add_text_options(to, sets)
    to.add_argument("--threads", type=at_least_one, default=1, help="threads of every contender (default: 1)")
    to.add_argument("--rounds", type=at_least_one, default=rounds, help=f"timed rounds (default: {rounds})")
    to.add_argument("--limit", type=at_least_one, default=limit, help=f"take the first N texts (default: {limit})")
    to.add_argument("--plot", type=Path, metavar="FILE", help="also draw the table; needs matplotlib")


def prepared(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """The sets of texts that were asked for, with everything that could be missing checked before any work."""
    sets = text_sets(arguments, SETS, arguments.limit)
    if arguments.plot is not None:
        pyplot()
    limit_threads(arguments.threads)
    return sets


def speed_rows(name: str, texts: list[str], timings: dict[str, Timing], against: str) -> list[dict[str, Any]]:
    """One row for each contender: its speed, and how many times that of `against` it is."""
    baseline = timings[against]
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


def print_speeds(results: Sequence[dict[str, Any]], against: str, threads: int, rounds: int) -> None:
    """A table for each set of texts."""
    columns = ("who", "texts/s", "texts/CPU s", f"x {against}, wall (min-max)", f"x {against}, CPU (min-max)")
    for name in dict.fromkeys(row["texts"] for row in results):
        chosen = [row for row in results if row["texts"] == name]
        rows = [
            (
                row["who"],
                f"{row['texts_per_second']:.1f}",
                f"{row['texts_per_cpu_second']:.1f}",
                spread_text(row["ratio_wall"]),
                spread_text(row["ratio_cpu"]),
            )
            for row in chosen
        ]
        about = f"{chosen[0]['count']} {name} texts, mean {chosen[0]['mean_characters']:.0f} characters"
        print_table(f"{about}; threads: {threads}; medians of {rounds} interleaved rounds", columns, rows)


def plot_speeds(results: Sequence[dict[str, Any]], path: Path, subtitle: str) -> None:
    """The same as bars."""
    plt = pyplot()
    sets = list(dict.fromkeys(row["texts"] for row in results))
    figure, axes = plt.subplots(1, len(sets), figsize=(4.2 * len(sets), 3.6), squeeze=False)
    for axis, name in zip(axes[0], sets, strict=True):
        rows = [row for row in results if row["texts"] == name]
        labels = [row["who"].replace(" ", "\n") for row in rows]
        bars = axis.bar(labels, [row["texts_per_cpu_second"] for row in rows], color=_COLOURS)
        axis.bar_label(bars, [f"{row['ratio_cpu']['median']:.2f}x" for row in rows], padding=2)
        axis.set_title(f"{name} texts (mean {rows[0]['mean_characters']:.0f} characters)", fontsize=10)
        axis.set_ylabel("texts per CPU second")
        axis.margins(y=0.15)
        axis.tick_params(axis="x", labelsize=8)
    save_plot(figure, axes[0], subtitle, path)
