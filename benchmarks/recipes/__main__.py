"""What does every recipe that makes a model smaller cost, and what does it give: accuracy, batch mates, size, speed?

Float32, bfloat16, 8 and 4 bits as stcompile, NNCF, onnxruntime, torchao, optimum, CTranslate2 and llama.cpp make them
of one model folder: each made in an environment of its own from PyPI, each run in a process of its own on one core,
every engine as it comes but for the number of threads. Measured are the cosine to torch in float32, a text alone
against itself in a padded batch of 32, NDCG@10 of a search, the size, and the time and memory that making it takes;
with --speed texts a second too, all recipes in turns, which wants a quiet machine. A recipe that fails is a row that
says why.

Everything is kept in --work, so that a run goes on where another ended; speeds are those of the last run with --speed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks._common import (
    add_model_option,
    at_least_one,
    machine_facts,
    model_folder,
    parser,
    pyplot,
    run,
    some_texts,
    status,
    write_json,
)
from benchmarks._quality import even_sample, part_of, read_retrieval
from benchmarks.peers.preparation import Ready
from benchmarks.recipes.making import Maker
from benchmarks.recipes.measures import Judge, Judged, speeds
from benchmarks.recipes.page import plot, print_rows, written
from benchmarks.recipes.table import RECIPES, REFERENCE
from stcompile.compiler.quantize.calibration import default_set
from stcompile.compiler.stack.load import load_stack
from stcompile.errors import StcompileError

_ALL = 1 << 30


def main() -> int:
    arguments = _arguments()
    if arguments.plot is not None:
        pyplot()
    judged = _judged(arguments)
    timed = {
        name: even_sample(some_texts(arguments.data / "texts" / f"{name}.jsonl", _ALL), getattr(arguments, name))
        for name in ("short", "mixed", "long")
    }
    machine = machine_facts()
    model = model_folder(arguments.model)
    maker = Maker(model, load_stack(model), arguments.work.resolve(), default_set())
    maker.folder.mkdir(parents=True, exist_ok=True)
    rows, ready = _measured(maker, Judge(judged, maker.folder), arguments.only)
    kept = maker.folder / "speed.json"
    if arguments.speed:
        found = {
            "machine": machine,
            "rounds": arguments.rounds,
            "texts": {name: len(texts) for name, texts in timed.items()},
            "rows": speeds(ready, timed, arguments.rounds),
        }
        kept.write_text(json.dumps(found), encoding="utf-8")
    speed: Mapping[str, Any] | None = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else None
    task = judged.retrieval
    settings = {
        "model": "all-MiniLM-L6-v2" if arguments.model is None else model.name,
        "sentences": len(judged.sentences),
        "mates": len(judged.mates),
        "queries": 0 if task is None else len(task.queries),
        "documents": 0 if task is None else len(task.documents),
        "calibration_texts": len(maker.calibration.texts),
    }
    results = {"rows": rows, "speed": speed}
    print_rows(results)
    write_json(arguments.json, "recipes", machine, settings, results)
    if arguments.page is not None:
        arguments.page.write_text(written(results, settings, machine), encoding="utf-8")
    if arguments.plot is not None and speed is not None:
        plot(results, arguments.plot)
    return 0


def _arguments() -> argparse.Namespace:
    made = parser(
        __doc__,
        "python -m benchmarks.recipes --work recipes --data data --speed --json benchmarks/results/recipes.json "
        "--plot benchmarks/results/recipes.png --page docs/recipes.md",
    )
    add_model_option(made)
    made.add_argument("--work", type=Path, required=True, metavar="DIR", help="where environments and models are kept")
    made.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="texts/{short,mixed,long}.jsonl with a field text, and scifact/ in BEIR's layout",
    )
    made.add_argument(
        "--only", action="append", default=[], metavar="WORD", help="recipes with this in their name; may be repeated"
    )
    made.add_argument(
        "--limit", type=at_least_one, default=600, help="short and mixed texts that are compared (default: 600)"
    )
    made.add_argument("--mates", type=at_least_one, default=128, help="alone and in batches (default: 128)")
    made.add_argument(
        "--documents",
        type=int,
        default=1000,
        metavar="N",
        help="search among N, all answers among them; 0 leaves the search out (default: 1000)",
    )
    made.add_argument("--speed", action="store_true", help="also time all recipes, in turns")
    made.add_argument("--rounds", type=at_least_one, default=5, help="timed rounds (default: 5)")
    for name, limit in (("short", 256), ("mixed", 48), ("long", 24)):
        made.add_argument(f"--{name}", type=at_least_one, default=limit, help=f"{name} texts timed (default: {limit})")
    made.add_argument("--page", type=Path, metavar="FILE", help="also write the page, docs/recipes.md")
    made.add_argument("--plot", type=Path, metavar="FILE", help="also draw accuracy and speed; needs matplotlib")
    return made.parse_args()


def _judged(arguments: argparse.Namespace) -> Judged:
    short, mixed = (some_texts(arguments.data / "texts" / f"{name}.jsonl", _ALL) for name in ("short", "mixed"))
    half = arguments.limit // 2
    count = arguments.documents
    task = part_of(read_retrieval(arguments.data / "scifact"), _ALL, count) if count else None
    return Judged([*even_sample(short, half), *even_sample(mixed, half)], even_sample(mixed, arguments.mates), task)


def _measured(maker: Maker, judge: Judge, words: list[str]) -> tuple[list[dict[str, Any]], dict[str, Ready]]:
    """A row of each recipe, and what starts those that work."""
    expected = judge.expected(*maker.ready(RECIPES[REFERENCE]))
    rows: list[dict[str, Any]] = []
    ready: dict[str, Ready] = {}
    for name, recipe in RECIPES.items():
        if words and name != REFERENCE and not any(word in name for word in words):
            continue
        status(name)
        row: dict[str, Any] = {"who": name, "kind": recipe.kind, "library": recipe.library, "call": recipe.call}
        try:
            item, made = maker.ready(recipe)
            cost = made.cost
            row["megabytes"] = round(made.megabytes, 1)
            if recipe.maker is not None:
                row |= {"wall_seconds": round(cost.wall_seconds, 1), "cpu_seconds": round(cost.cpu_seconds, 1)}
                row["peak_mb"] = round(cost.peak_mb)
            row |= judge.of(name, item, made, expected)
            ready[name] = item
        except StcompileError as error:
            row["failed"] = str(error)
        rows.append(row)
    return rows, ready


if __name__ == "__main__":
    run(main)
