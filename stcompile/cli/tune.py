"""`stcompile tune`: which target is best for a model on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from stcompile.cli import options, render
from stcompile.cli.console import out, print_json, spinner
from stcompile.cli.textfiles import destination_errors, moved_into_place, read_share
from stcompile.compiler.stack.source import ModelSource
from stcompile.errors import InputError, MissingExtraError
from stcompile.extras import require
from stcompile.runtime.arguments import local_path


def tune(
    model: options.ModelArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The winner's folder. Default: ./NAME-tuned.")
    ] = None,
    texts: Annotated[
        str | None,
        typer.Option(help="Your texts, to measure speed and accuracy on: one a line, .jsonl, .csv or .tsv."),
    ] = None,
    texts_field: options.TextsFieldOption = "text",
    max_drop: Annotated[str, typer.Option(help="Largest share of accuracy that may be lost.")] = "0.5%",
    targets: Annotated[str | None, typer.Option(help="Candidates, by comma. Default: all that run here.")] = None,
    evaluation: Annotated[
        str | None,
        typer.Option("--eval", help="Scored pairs to measure the drop on. Default: 1 - mean cosine to onnx-fp32."),
    ] = None,
    evaluation_fields: options.EvaluationFieldsOption = options.PAIR_FIELDS,
    calibration: options.CalibrationOption = None,
    calibration_field: options.CalibrationFieldOption = "text",
    rounds: Annotated[int, typer.Option(help="Timed runs of each target.")] = 5,
    limit: Annotated[int, typer.Option(help="Most texts to measure on: of more an even sample is taken.")] = 512,
    threads: Annotated[int | None, typer.Option(help="Engine threads. Default: the CPUs this process may use.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Picture of the frontier, .png, .svg or .pdf. Default: OUTPUT-frontier.png.")
    ] = None,
    revision: options.RevisionOption = None,
    cache_dir: options.CacheOption = None,
    trust_remote_code: options.TrustOption = False,
    follow_links: options.FollowOption = False,
    file: options.FileOption = None,
    modalities: options.ModalitiesOption = None,
    verbose: options.VerboseOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Find the best target for a model on this machine, and keep it.

    Compiles every target that runs here, measures them in turns on your texts, prints speed, accuracy and size with
    what it recommends and why, and publishes the winner. Beside it are OUTPUT-tune.json and a picture of the frontier.

    Examples:

    stcompile tune all-MiniLM-L6-v2/ --texts mine.jsonl --max-drop 0.3% -o minilm

    stcompile tune all-MiniLM-L6-v2/ --targets onnx-int8,openvino-int8 --eval my-pairs.csv --threads 1
    """
    share = read_share(max_drop)
    # Absolute, because what lies beside it is named after it, and "." has no name.
    destination = local_path(output or f"{options.name_of(model)}-tuned").absolute()
    require("torch", "Compiling a model")
    from stcompile.cli.frontier import check_plot, plot_frontier  # noqa: PLC0415 - imports torch
    from stcompile.compiler.tune.tuning import tune_model  # noqa: PLC0415 - the same

    record = destination.parent / f"{destination.name}-tune.json"
    picture = local_path(plot) if plot else destination.parent / f"{destination.name}-frontier.png"
    _check_own_record(record, picture if plot is None else None)
    left_out = None
    try:
        check_plot(picture)
    except MissingExtraError as error:
        if plot is not None:
            raise
        left_out = f"no picture: {error}"
    report = tune_model(
        ModelSource(
            model,
            revision,
            cache_dir,
            trust_remote_code,
            follow_links,
            modalities=options.modalities_in(modalities),
            file=file,
        ),
        destination,
        texts=options.texts_in(texts, texts_field),
        max_drop=share,
        targets=None if targets is None else [name.strip() for name in targets.split(",")],
        evaluation=options.pairs_in(evaluation, evaluation_fields),
        calibration=options.calibration_in(calibration, calibration_field),
        rounds=rounds,
        limit=limit,
        threads=threads,
        step=spinner,
    )
    found = {"artifact": str(destination), "plot": None if left_out else str(picture), **report.to_dict()}
    with destination_errors(record), moved_into_place(record) as partial:
        partial.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if left_out is None:
        plot_frontier(report, picture)
    if as_json:
        print_json(found)
        return
    out.print(render.tuning(found))
    out.print(f"{destination}: {report.winner}; {left_out or picture}", highlight=False, soft_wrap=True)


def _check_own_record(record: Path, picture: Path | None) -> None:
    """What an earlier tuning left beside the winner may be replaced, and nothing else by names nobody asked for.

    Args:
        record: the report.
        picture: the picture, where its name was not asked for.
    """
    try:
        earlier = json.loads(record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        earlier = {}
    except (OSError, ValueError, RecursionError):
        earlier = None
    if not isinstance(earlier, dict) or (
        os.path.lexists(record) and not {"artifact", "winner", "targets"} <= {*earlier}
    ):
        raise InputError(f"{record} is no report of stcompile tune: move it elsewhere or choose another --output")
    if picture is not None and os.path.lexists(picture) and earlier.get("plot") != str(picture):
        raise InputError(f"{picture} is no picture of an earlier tuning: move it elsewhere or name another with --plot")
