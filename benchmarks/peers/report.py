"""The tables and the plot of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks._common import print_table, pyplot, save_plot, spread_text

_COLOURS = {"fp32": "#9a9a9a", "bf16": "#c98a3d", "int8": "#4878a8"}
_OURS = "stcompile"


def print_bulk(results: Mapping[str, Any]) -> None:
    """A table for each set of texts and number of cores, the fastest first."""
    for cores, texts in dict.fromkeys((row["cores"], row["texts"]) for row in results["bulk"]):
        rows = [row for row in results["bulk"] if (row["cores"], row["texts"]) == (cores, texts)]
        rows.sort(key=lambda row: -row["texts_per_second"])
        print_table(
            f"{texts} texts, {cores} core{'s' if cores > 1 else ''}",
            ("who", "texts/s", "texts/CPU s", "of the int8 limit", "x fastest peer (min-max)", "which"),
            [
                (
                    row["who"],
                    f"{row['texts_per_second']:.1f}",
                    f"{row['texts_per_cpu_second']:.1f}",
                    "" if row["of_int8_limit"] is None else f"{row['of_int8_limit']:.0%}",
                    "" if row["ratio_to_it"] is None else spread_text(row["ratio_to_it"]),
                    row["fastest_peer"] or "",
                )
                for row in rows
            ],
        )


def print_others(results: Mapping[str, Any]) -> None:
    """Latency of one text, cold start and accuracy, a row for each contender."""
    latency, start, accuracy = (
        {row["who"]: row for row in results[name]} for name in ("latency", "cold_start", "accuracy")
    )
    print_table(
        "one short text at a time; a fresh process's first vector; cosine to sentence-transformers on torch",
        ("who", "p50 ms", "p99 ms", "start s", "x torch", "mean cosine", "min cosine", "STS-B"),
        [
            (
                name,
                f"{latency[name]['p50_ms']:.2f}",
                f"{latency[name]['p99_ms']:.2f}",
                f"{start[name]['seconds']['median']:.2f}",
                f"{start[name]['times_torch']['median']:.1f}",
                f"{accuracy[name]['mean_cosine']:.5f}",
                f"{accuracy[name]['min_cosine']:.5f}",
                f"{accuracy[name]['sts_spearman']:.2f}" if "sts_spearman" in accuracy[name] else "",
            )
            for name in sorted(latency, key=lambda name: latency[name]["p50_ms"])
        ],
    )


def plot_bulk(results: Mapping[str, Any], path: Path, subtitle: str) -> None:
    """Texts a second as bars: a column of plots for each set of texts, a row for each number of cores."""
    plt = pyplot()
    sets = list(dict.fromkeys(row["texts"] for row in results["bulk"]))
    counts = list(dict.fromkeys(row["cores"] for row in results["bulk"]))
    figure, axes = plt.subplots(len(counts), len(sets), figsize=(4.4 * len(sets), 3.6 * len(counts)), squeeze=False)
    for line, cores in zip(axes, counts, strict=True):
        for axis, texts in zip(line, sets, strict=True):
            rows = [row for row in results["bulk"] if (row["cores"], row["texts"]) == (cores, texts)]
            rows.sort(key=lambda row: row["texts_per_second"])
            speeds = [row["texts_per_second"] for row in rows]
            bars = axis.barh([row["who"] for row in rows], speeds, color=[_COLOURS[row["precision"]] for row in rows])
            axis.bar_label(
                bars, [f"{speed:.0f}" if speed >= 100 else f"{speed:.1f}" for speed in speeds], padding=2, fontsize=6
            )
            axis.tick_params(axis="y", labelsize=6)
            for label in axis.get_yticklabels():
                label.set_fontweight("bold" if label.get_text().startswith(_OURS) else "normal")
            axis.set_title(f"{texts} texts, {cores} core{'s' if cores > 1 else ''}", fontsize=9)
            axis.set_xlabel("texts/s", fontsize=7)
            axis.margins(x=0.15)
    save_plot(figure, axes.ravel(), f"grey fp32, blue int8, orange bf16; {subtitle}", path)
