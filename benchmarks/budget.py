"""What does an accuracy budget cost?

onnx-int8 is compiled as it comes and within several budgets of `min_cosine`. Each plan is measured on texts that it was
not searched on: cosine to the vectors of onnx-fp32, and speed against onnx-fp32, in turns in this one process. A budget
holds on the texts it was searched on (the calibration texts and the probe texts of parity); how far it carries to other
texts is the question here, so a smaller cosine on them is shown and is no failure. A budget that no plan meets is a row
too.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._common import (
    BATCH_SIZE,
    add_model_option,
    at_least_one,
    encode_of,
    limit_threads,
    machine_facts,
    model_folder,
    parser,
    print_table,
    pyplot,
    run,
    save_plot,
    spread_text,
    status,
    write_json,
)
from benchmarks._quality import even_sample, joined_texts
from stcompile.artifact import Artifact
from stcompile.artifact.report import read_report
from stcompile.compiler.metrics import distance, rounded
from stcompile.compiler.timing import interleave, speedup
from stcompile.errors import ParityError
from stcompile.runtime.encoder import Encoder

BASELINE, TARGET = "onnx-fp32", "onnx-int8"
NO_BUDGET = "none"
BUDGETS = (0.995, 0.998, 0.999, 0.9995)


@dataclass(frozen=True)
class Plan:
    """What became of one budget.

    Attributes:
        asked: smallest allowed cosine; None where none was asked for.
        artifact: what was published; None where nothing was.
        refusal: why nothing was; empty where something was.
        seconds: what the export took, with its search.
    """

    asked: float | None
    artifact: Artifact | None
    refusal: str
    seconds: float

    @property
    def name(self) -> str:
        return NO_BUDGET if self.asked is None else str(self.asked)


def main() -> int:
    arguments = _arguments()
    texts = joined_texts(arguments.texts, arguments.limit)
    timed = even_sample(texts, arguments.timed)
    if arguments.plot is not None:
        pyplot()
    limit_threads(arguments.threads)
    machine = machine_facts()
    model = model_folder(arguments.model)
    with tempfile.TemporaryDirectory(prefix="stcompile-benchmark-") as scratch:
        exact = _compiled(model, Path(scratch) / BASELINE, BASELINE, None)
        plans = [
            _plan(model, Path(scratch) / f"{TARGET}-{number}", asked)
            for number, asked in enumerate((None, *arguments.min_cosine))
        ]
        results = _measured(exact, plans, texts, timed, arguments)
    settings = {
        "model": model.name,
        "texts": [path.name for path in arguments.texts],
        "held_back": len(texts),
        "timed": len(timed),
        "mean_characters": round(sum(map(len, timed)) / len(timed), 1),
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "batch_size": BATCH_SIZE,
    }
    _print(results, settings)
    write_json(arguments.json, "budget", machine, settings, results)
    if arguments.plot is not None:
        _plot(results, arguments.plot, f"{len(texts)} held-back texts; {machine['cpu']}, threads: {arguments.threads}")
    return 0


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, "python -m benchmarks.budget --texts mixed.jsonl --json result.json --plot plot.png")
    made.add_argument(
        "--texts",
        type=Path,
        action="append",
        required=True,
        metavar="FILE",
        help="texts that no plan was searched on: one a line, or .jsonl with a field text; may be repeated",
    )
    made.add_argument(
        "--limit", type=at_least_one, default=2000, help="compare vectors of an even sample of N (default: 2000)"
    )
    made.add_argument("--timed", type=at_least_one, default=128, help="time an even sample of N of them (default: 128)")
    made.add_argument(
        "--min-cosine",
        type=_budgets,
        default=BUDGETS,
        metavar="A,B",
        help=f"budgets (default: {','.join(map(str, BUDGETS))})",
    )
    made.add_argument("--threads", type=at_least_one, default=1, help="threads of every contender (default: 1)")
    made.add_argument("--rounds", type=at_least_one, default=7, help="timed rounds (default: 7)")
    made.add_argument("--plot", type=Path, metavar="FILE", help="also draw speed over cosine; needs matplotlib")
    add_model_option(made)
    return made.parse_args()


def _budgets(text: str) -> tuple[float, ...]:
    """Argument type: cosines with commas between them."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = (math.nan,)
    if not all(0 < budget <= 1 for budget in found):
        raise argparse.ArgumentTypeError(f"not cosines between 0 and 1, with commas between them: {text}")
    return found


def _compiled(model: Path, folder: Path, target: str, asked: float | None) -> Artifact:
    from stcompile.compiler.export import export_model  # noqa: PLC0415 - imports torch, whose threads must be set before

    status(f"Compiling {target}{'' if asked is None else f', min cosine {asked}'}")
    return export_model(model, folder, target, min_cosine=asked)


def _plan(model: Path, folder: Path, asked: float | None) -> Plan:
    started = time.perf_counter()
    artifact, refusal = None, ""
    try:
        artifact = _compiled(model, folder, TARGET, asked)
    except ParityError as error:  # a BudgetError is one
        refusal = str(error)
    return Plan(asked, artifact, refusal, time.perf_counter() - started)


def _measured(
    exact: Artifact, plans: Sequence[Plan], texts: list[str], timed: list[str], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """One row for each plan."""
    contenders = {BASELINE: encode_of(Encoder(exact, threads=arguments.threads))}
    for plan in plans:
        if plan.artifact is not None:
            contenders[plan.name] = encode_of(Encoder(plan.artifact, threads=arguments.threads))
    status(f"Encoding {len(texts)} held-back texts with each of {len(contenders)}")
    vectors = {name: encode(texts) for name, encode in contenders.items()}
    status(f"Timing {len(timed)} of them, {arguments.rounds} rounds")
    timings = interleave({name: partial(encode, timed) for name, encode in contenders.items()}, arguments.rounds)
    rows = []
    for plan in plans:
        row: dict[str, Any] = {"budget": plan.name, "asked": plan.asked, "export_seconds": round(plan.seconds, 1)}
        if plan.artifact is None:
            rows.append({**row, "refused": plan.refusal})
            continue
        cosine = distance(vectors[BASELINE], vectors[plan.name]).cosine
        rows.append(
            {
                **row,
                **_plan_facts(plan.artifact),
                "min_cosine": rounded(cosine.min()),
                "mean_cosine": rounded(cosine.mean()),
                "ratio_cpu": speedup(timings[BASELINE].cpu, timings[plan.name].cpu).to_dict(3),
                "ratio_wall": speedup(timings[BASELINE].wall, timings[plan.name].wall).to_dict(3),
            }
        )
    return rows


def _plan_facts(artifact: Artifact) -> dict[str, Any]:
    done = read_report(artifact).quantization
    assert done is not None
    return {
        "megabytes": round(artifact.size / 1e6, 1),
        "schemes": dict(Counter(layer.scheme for layer in done.layers)),
        "steps": None if done.budget is None else done.budget.steps,
        "reached": None if done.budget is None else done.budget.reached,
        "searched_on": None if done.budget is None else done.budget.texts,
    }


def _print(results: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> None:
    rows = []
    for row in results:
        seconds = f"{row['export_seconds']:.0f}"
        if "refused" in row:
            rows.append((row["budget"], "", "nothing published", "", "", "", "", seconds))
            continue
        rows.append(
            (
                row["budget"],
                f"{row['megabytes']:.1f}",
                ", ".join(f"{count} {scheme}" for scheme, count in row["schemes"].items()),
                "" if row["reached"] is None else f"{row['reached']:.5f}",
                f"{row['min_cosine']:.5f}",
                f"{row['mean_cosine']:.5f}",
                spread_text(row["ratio_cpu"]),
                seconds,
            )
        )
    print_table(
        f"{TARGET}: {settings['held_back']} held-back texts; speed on {settings['timed']} of them, mean "
        f"{settings['mean_characters']:.0f} characters; threads: {settings['threads']}; medians of "
        f"{settings['rounds']} interleaved rounds",
        (
            "min_cosine",
            "MB",
            "layers",
            "the search's min cosine",
            "min cosine",
            "mean cosine",
            f"x {BASELINE}, CPU (min-max)",
            "export s",
        ),
        rows,
        [f"min_cosine {row['budget']}: {row['refused']}" for row in results if "refused" in row],
    )


def _plot(results: Sequence[Mapping[str, Any]], path: Path, subtitle: str) -> None:
    """Speed over the smallest cosine of the held-back texts."""
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(6, 4))
    for row in (row for row in results if "refused" not in row):
        spread = row["ratio_cpu"]
        error = [[spread["median"] - spread["min"]], [spread["max"] - spread["median"]]]
        place = max(1 - row["min_cosine"], 1e-7)
        axis.errorbar(place, spread["median"], yerr=error, fmt="o", capsize=3, color="#4878a8")
        label = "no budget" if row["asked"] is None else str(row["asked"])
        axis.annotate(label, (place, spread["median"]), xytext=(6, 4), textcoords="offset points", fontsize=8)
    axis.axhline(1, color="#9a9a9a", linewidth=0.8)
    axis.set_xscale("log")
    axis.set_xlabel(f"1 - smallest cosine to {BASELINE}; beside each plan its budget", fontsize=9)
    axis.set_ylabel(f"times {BASELINE}, CPU time")
    axis.margins(x=0.3, y=0.2)
    save_plot(figure, (axis,), subtitle, path)


if __name__ == "__main__":
    run(main)
