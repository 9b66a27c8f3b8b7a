"""How fast is every target, against our own onnx-fp32?

Every target that this machine can run, in this one process, in turns, on the same texts with the same batches and
the same number of threads. What counts is the ratio to onnx-fp32 within a round: the speed of the machine cancels out
of it. Targets that this machine refuses are listed with the reason. `static` is another model: see benchmarks.static.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._common import (
    add_artifact_option,
    add_model_option,
    artifacts,
    at_least_one,
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
    text_sets,
    write_json,
)
from benchmarks._speeds import add_speed_options, speed_rows
from stcompile.artifact import Artifact
from stcompile.artifact.target import STATIC, TARGETS, Target
from stcompile.compiler.timing import interleave
from stcompile.errors import InputError
from stcompile.runtime.encoder import Encoder

BASELINE = "onnx-fp32"
EVERY_TARGET = ("every target that this machine runs",)

_SETS = ("short", "mixed", "long")
_COLOURS = ("#4878a8", "#2a9d6f", "#c98a3d")


def main() -> int:
    arguments = _arguments()
    sets = text_sets(arguments, _SETS, arguments.limit)
    names, refused = chosen_targets(arguments.targets, arguments.artifact)
    if arguments.plot is not None:
        pyplot()
    limit_threads(arguments.threads)
    machine = machine_facts()
    model = model_folder(arguments.model)
    results: list[dict[str, Any]] = []
    with artifacts(arguments.artifact, model, list(dict.fromkeys((BASELINE, *names)))) as compiled:
        measured = _by_target(compiled)
        encoders = {name: Encoder(artifact, threads=arguments.threads) for name, artifact in measured.items()}
        for name, texts in sets.items():
            status(f"Timing {len(texts)} {name} texts, {arguments.rounds} rounds")
            calls = {
                who: partial(encoder.encode, texts, batch_size=arguments.batch_size, show_progress_bar=False)
                for who, encoder in encoders.items()
            }
            rows = speed_rows(name, texts, interleave(calls, arguments.rounds), BASELINE)
            results += [{**row, **_facts(measured[row["who"]])} for row in rows]
    settings = {
        "model": model.name,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "batch_size": arguments.batch_size,
        "refused": refused,
    }
    _print(results, settings)
    write_json(arguments.json, "targets", machine, settings, results)
    if arguments.plot is not None:
        _plot(results, arguments.plot, f"{machine['cpu']}, threads: {arguments.threads}")
    return 0


def add_targets_option(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--targets",
        metavar="A,B",
        help=f"compile these alone (default: {EVERY_TARGET[0]}, without {STATIC})",
    )


def chosen_targets(asked: str | None, given: Sequence[Path]) -> tuple[list[str], dict[str, str]]:
    """What to compile, and which targets this machine refuses, with the reason; nothing where artifacts are given.

    Args:
        asked: names with commas between them; None for all but `static`.
        given: artifacts that are there already.

    Raises:
        InputError, TargetError: both were given, a name is unknown, or nothing is left.
    """
    if given:
        if asked is not None:
            raise InputError("an artifact has its target: pass --artifact or --targets, not both")
        return [], {}
    names = [name for name in TARGETS if name != STATIC]
    if asked is not None:
        names = [Target.parse(name.strip()).name for name in asked.split(",")]
    if STATIC in names:
        raise InputError(f"{STATIC} is another model, not another precision of this one: see benchmarks.static")
    reasons = {name: "; ".join(TARGETS[name].refusals()) for name in names}
    refused = {name: reason for name, reason in reasons.items() if reason}
    if len(refused) == len(reasons):
        raise InputError("; ".join(f"{name} is refused here: {reason}" for name, reason in refused.items()))
    return [name for name in reasons if name not in refused], refused


def _arguments() -> argparse.Namespace:
    made = parser(
        __doc__, "python -m benchmarks.targets --short short.jsonl --long long.jsonl --json result.json --plot plot.png"
    )
    add_artifact_option(made, EVERY_TARGET)
    add_targets_option(made)
    add_model_option(made)
    add_speed_options(made, rounds=7, limit=128, sets=_SETS)
    made.add_argument(
        "--batch-size",
        type=at_least_one,
        help="texts of a batch (default: the runtime's own batches of so many tokens)",
    )
    return made.parse_args()


def _by_target(compiled: Sequence[Artifact]) -> dict[str, Artifact]:
    found = {artifact.manifest.target: artifact for artifact in compiled}
    if len(found) < len(compiled):
        raise InputError("two artifacts are of one target: compare them in two runs")
    if BASELINE not in found:
        raise InputError(f"no artifact is {BASELINE}, which all others are compared with: pass one")
    return found


def _facts(artifact: Artifact) -> dict[str, Any]:
    return {"megabytes": round(artifact.size / 1e6, 1), "batch_invariant": artifact.manifest.batch_invariant}


def _print(results: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> None:
    columns = ("target", "MB", "batch-invariant", "texts/CPU s", "x, CPU (min-max)", "x, wall (min-max)")
    names = list(dict.fromkeys(row["texts"] for row in results))
    notes = [f"{name} is refused here: {reason}" for name, reason in settings["refused"].items()]
    notes += [
        f"{name}: {caveat}"
        for name in dict.fromkeys(row["who"] for row in results)
        for caveat in TARGETS[name].caveats()
    ]
    for name in names:
        chosen = [row for row in results if row["texts"] == name]
        rows = [
            (
                row["who"],
                f"{row['megabytes']:.1f}",
                "yes" if row["batch_invariant"] else "no",
                f"{row['texts_per_cpu_second']:.1f}",
                spread_text(row["ratio_cpu"]),
                spread_text(row["ratio_wall"]),
            )
            for row in chosen
        ]
        print_table(
            f"x {BASELINE}: {chosen[0]['count']} {name} texts, mean {chosen[0]['mean_characters']:.0f} characters; "
            f"threads: {settings['threads']}; batches of {settings['batch_size'] or 'the runtime'}; "
            f"medians of {settings['rounds']} interleaved rounds",
            columns,
            rows,
            notes if name == names[-1] else (),
        )


def _plot(results: Sequence[Mapping[str, Any]], path: Path, subtitle: str) -> None:
    """Ratios as bars, the sets of texts side by side, from the smallest to the largest round."""
    plt = pyplot()
    sets = list(dict.fromkeys(row["texts"] for row in results))
    targets = list(dict.fromkeys(row["who"] for row in results))
    width = 0.8 / len(sets)
    figure, axis = plt.subplots(figsize=(max(6.0, 1.0 * len(targets)), 4.2))
    for number, name in enumerate(sets):
        spreads = [row["ratio_cpu"] for row in results if row["texts"] == name]
        medians = [spread["median"] for spread in spreads]
        below = [spread["median"] - spread["min"] for spread in spreads]
        above = [spread["max"] - spread["median"] for spread in spreads]
        places = [place + (number - (len(sets) - 1) / 2) * width for place in range(len(targets))]
        bars = axis.bar(
            places, medians, width, yerr=[below, above], capsize=2, label=f"{name} texts", color=_COLOURS[number]
        )
        axis.bar_label(bars, [f"{median:.2f}" for median in medians], padding=2, fontsize=6)
    axis.axhline(1, color="#9a9a9a", linewidth=0.8)
    axis.set_xticks(range(len(targets)), [name.replace("-", "\n", 1) for name in targets], fontsize=7)
    axis.set_ylabel(f"times {BASELINE}, CPU time")
    axis.legend(frameon=False, fontsize=8)
    save_plot(figure, (axis,), subtitle, path)


if __name__ == "__main__":
    run(main)
