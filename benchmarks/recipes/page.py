"""The table on a terminal, docs/recipes.md, and the plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks._common import print_table, pyplot, save_plot
from benchmarks.recipes.table import KINDS, OURS, REFERENCE

# The least cosine of a text alone to itself in a batch where its vector is its own, as `benchmarks.accuracy` has it.
INVARIANT = 0.99999

# What of torch's NDCG@10, as a share, may be lost by what is recommended, and the least cosine it must keep.
_LOST, _LEAST = 0.01, 0.98

SETS = ("short", "mixed", "long")

_HEAD = """# Recipes

What every way to make an embedding model smaller or faster gives and costs, ours and others', measured alike. This
page is written by `python -m benchmarks.recipes` ([report](../benchmarks/results/recipes.json)). Rows that come out bad
stay: that is what one wants to know before.

- **mean** and **least**: cosine of a text's vector to that of sentence-transformers on torch in float32, on {sentences}
  short and mixed texts that nothing was calibrated on.
- **batch mates**: the least cosine of a text alone to itself in a batch of 32 texts of other lengths, which pad it
  ({mates} texts). Below {invariant} a text has another vector in other company.
- **NDCG@10**, times 100: {search}.
- **MB**: the files with graph and weights.
- **texts/s** on one core: short ones of 15 tokens on average, mixed of 122, and long ones, most of which are cut at
  256; {timed}.
- **made in**: CPU seconds of all threads, and the most memory, from the model folder on. The float32 export that a
  recipe begins with is counted, and of ours that the result is judged.

Every engine runs as it comes but for the number of threads. So OpenVINO computes what others gave it in bfloat16 where
the CPU has it, and puts activations in 8 bits before compressed weights; rows "computed in float32" have both switched
off, and ours always do. Recipes that want texts were given the same {calibration} calibration texts, one by one.
"""

_SEARCH = "{queries} queries among {documents} scientific abstracts of SciFact, all answers among them"

_AGAIN = """
## Again

    python -m benchmarks.recipes --work recipes --data data --speed --json recipes.json --plot recipes.png \\
        --page recipes.md

`--data` is a folder of your own with `texts/short.jsonl`, `mixed.jsonl` and `long.jsonl` and `scifact/` in BEIR's
layout; `--model DIR` takes another model, `--only WORD` does a part. Environments, files and results stay in `--work`:
what was made and measured once is not made again until its packages, its options, the model or the texts change.
"""


def print_rows(results: Mapping[str, Any]) -> None:
    """A table for each kind."""
    speeds = _speeds(results)
    columns = ("recipe", "mean", "least", "mates", "NDCG", "MB", *SETS, "CPU s", "GB")
    for kind, rows in _kinds(results):
        print_table(kind, columns, [(row["who"], *_cells(row, speeds)) for row in rows])


def written(results: Mapping[str, Any], settings: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """The page's text."""
    speed = results["speed"]
    head = _HEAD.format(
        sentences=settings["sentences"],
        mates=settings["mates"],
        invariant=f"{INVARIANT:g}",
        search=_SEARCH.format(**settings) if settings["documents"] else "not measured yet",
        timed=f"medians of {speed['rounds']} interleaved rounds" if speed else "not measured yet",
        calibration=settings["calibration_texts"],
    )
    speeds = _speeds(results)
    tables = "".join(
        f"\n## {kind}\n\n" + _table(_COLUMNS, [(_name(row), *_cells(row, speeds)) for row in rows])
        for kind, rows in _kinds(results)
    )
    calls = _table(("recipe", "how"), [(_name(row), f"`{row['call']}`") for row in results["rows"]])
    where = f"\nMeasured with {settings['model']} on {machine['cpu']}"
    where += f" ({', '.join(_told(machine['cpu_flags']))})" if machine.get("cpu_flags") else ""
    where += f", texts a second with a load of {speed['machine']['load_before']} before.\n" if speed else ".\n"
    drawn = "\n![speed over nearness to torch](../benchmarks/results/recipes.png)\n" if speed else ""
    return f"{head}{drawn}{_seen(results)}{tables}\n## How each is made\n\n{calls}{where}{_AGAIN}"


_COLUMNS = (
    "recipe",
    "mean",
    "least",
    "batch mates",
    "NDCG@10",
    "MB",
    *(f"{name} texts/s" for name in SETS),
    "made in CPU s",
    "GB",
)


def _name(row: Mapping[str, Any]) -> str:
    return f"**{row['who']}**" if row["library"] == OURS else str(row["who"])


def _cells(row: Mapping[str, Any], speeds: Mapping[tuple[str, str], float]) -> tuple[str, ...]:
    if "failed" in row:
        return (f"not here: {row['failed']}", *[""] * (len(_COLUMNS) - 2))
    return (
        _written(row.get("mean_cosine"), ".5f"),
        _written(row.get("min_cosine"), ".4f"),
        _written(row.get("min_invariance"), ".5f"),
        _written(row.get("ndcg"), ".2f"),
        _written(row.get("megabytes"), ".1f"),
        *(_written(speeds.get((row["who"], name)), ".0f" if name == "short" else ".1f") for name in SETS),
        _written(row.get("cpu_seconds"), ".0f"),
        _written(None if "peak_mb" not in row else row["peak_mb"] / 1e3, ".1f"),
    )


def _written(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def _told(flags: Sequence[str]) -> list[str]:
    return [flag for flag in flags if flag.startswith(("avx512_vnni", "avx512_bf16", "amx", "avx2", "avx_vnni"))]


def _kinds(results: Mapping[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    found = [(kind, [row for row in results["rows"] if row["kind"] == kind]) for kind in KINDS]
    return [(kind, rows) for kind, rows in found if rows]


def _speeds(results: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Recipe and set of texts to texts a second."""
    speed = results["speed"]
    return {} if speed is None else {(row["who"], row["texts"]): row["texts_per_second"] for row in speed["rows"]}


def _seen(results: Mapping[str, Any]) -> str:
    """What the tables say, in sentences that are made of them."""
    rows = [row for row in results["rows"] if "min_invariance" in row]
    torch = next((row for row in rows if row["who"] == REFERENCE), None)
    if torch is None:
        return ""
    speeds = _speeds(results)
    smaller = [row for row in rows if row["kind"] in KINDS[1:]]
    # Without a search nothing is lost in it.
    lost = {row["who"]: 1 - row["ndcg"] / torch["ndcg"] if "ndcg" in torch else 0.0 for row in rows}
    sound = [
        row
        for row in smaller
        if row["min_invariance"] >= INVARIANT and row["min_cosine"] >= _LEAST and lost[row["who"]] <= _LOST
    ]
    lines = [
        _listed(
            f"A text has another vector beside others: a cosine to itself below {INVARIANT:g}",
            {row["who"]: row["min_invariance"] for row in smaller if row["min_invariance"] < INVARIANT},
            ".5f",
        ),
        _listed(
            f"Some text is further from torch than a cosine of {_LEAST:g}",
            {row["who"]: row["min_cosine"] for row in smaller if row["min_cosine"] < _LEAST},
            ".3f",
        ),
    ]
    if "ndcg" in torch:
        kept = {row["who"]: 1 - lost[row["who"]] for row in smaller if lost[row["who"]] > _LOST}
        lines.append(_listed(f"The search keeps less than {1 - _LOST:.0%} of torch's NDCG@10", kept, ".1%"))
    if sound:
        nearest = max(sound, key=lambda row: row["mean_cosine"])
        smallest = min(sound, key=lambda row: row["megabytes"])
        picks = f"nearest to torch is {_name(nearest)}, smallest {_name(smallest)}"
        for name in SETS if speeds else ():
            fastest = max(sound, key=lambda row: speeds.get((row["who"], name), 0.0))
            picks += f", fastest on {name} texts {_name(fastest)}"
        lines.append(f"- Of all that are on none of these lists, {picks}.\n")
    if few := [row for row in smaller if row["kind"] == KINDS[-1]]:
        nearest = max(few, key=lambda row: row["mean_cosine"])
        lines.append(f"- Of 4 bits, {_name(nearest)} is nearest to torch.\n")
    return "\n## What to see\n\n" + "".join(lines)


def _listed(what: str, numbers: Mapping[str, float], form: str) -> str:
    """One sentence, the worst first."""
    found = "; ".join(f"{name} {numbers[name]:{form}}" for name in sorted(numbers, key=numbers.__getitem__))
    return f"- {what}: {found or 'none'}.\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


_COLOURS = ("#4878a8", "#c98a3d", "#2a9d6f", "#9a9a9a", "#a85878", "#7a68a8", "#5a5a5a", "#b8a030")


def plot(results: Mapping[str, Any], path: Path) -> None:
    """Speed over the distance to torch; hollow where a text's vector depends on its batch mates."""
    speeds = _speeds(results)
    rows = [row for row in results["rows"] if (row["who"], "mixed") in speeds and row["who"] != REFERENCE]
    libraries = list(dict.fromkeys(row["library"] for row in rows))
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(10, 6.4))
    for row in rows:
        colour = _COLOURS[libraries.index(row["library"])]
        place = max(1 - row["mean_cosine"], 1e-8), speeds[row["who"], "mixed"]
        filled = row["min_invariance"] >= INVARIANT
        axis.plot(*place, "o", color=colour, markerfacecolor=colour if filled else "white", markersize=5)
        axis.annotate(row["who"], place, xytext=(5, 3), textcoords="offset points", fontsize=6, color=colour)
    axis.axhline(speeds[REFERENCE, "mixed"], color="#9a9a9a", linewidth=0.8, linestyle=":")
    axis.set_xscale("log")
    axis.margins(x=0.12)
    axis.set_xlabel("1 - mean cosine to torch: nearer on the left")
    axis.set_ylabel("mixed texts a second on one core")
    machine = results["speed"]["machine"]
    save_plot(figure, (axis,), f"hollow: depends on batch mates; dotted: torch float32; {machine['cpu']}", path)
