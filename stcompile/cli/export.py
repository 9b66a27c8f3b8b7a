"""`stcompile export`: a model in, a proved artifact out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from stcompile.artifact.report import read_report
from stcompile.artifact.target import PCA_DIMS, Target
from stcompile.cli import options, render
from stcompile.cli.console import out, print_json, spinner
from stcompile.cli.textfiles import read_share
from stcompile.compiler.stack.source import ModelSource
from stcompile.errors import InputError
from stcompile.extras import require


def export(
    model: options.ModelArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The artifact's folder. Default: ./NAME-TARGET.")
    ] = None,
    target: Annotated[
        str, typer.Option("--target", "-t", help="What to compile for; see `stcompile targets`.")
    ] = "onnx-int8",
    provider: Annotated[str, typer.Option(help="Shape the graph for this execution provider: cpu or cuda.")] = "cpu",
    packed: Annotated[
        bool,
        typer.Option(
            "--packed", help="With --provider cuda: leave padding out of the network. Needs a GPU, to prove the result."
        ),
    ] = False,
    portable: Annotated[
        bool,
        typer.Option(
            "--portable",
            help="Leave the package's own operators out: standard ones alone. What is exported without it runs in any "
            "ONNX Runtime too, and faster in this one.",
        ),
    ] = False,
    outputs: Annotated[
        str,
        typer.Option(
            help="Graph outputs: sentence_embedding, or with ,token_embeddings; of bge-m3 dense,sparse,multi_vector."
        ),
    ] = "sentence_embedding",
    texts: options.TextsOption = None,
    texts_field: options.TextsFieldOption = "text",
    min_cosine: options.BudgetCosineOption = None,
    revision: options.RevisionOption = None,
    cache_dir: options.CacheOption = None,
    trust_remote_code: options.TrustOption = False,
    follow_links: options.FollowOption = False,
    sparse: options.SparseOption = False,
    file: options.FileOption = None,
    modalities: options.ModalitiesOption = None,
    verbose: options.VerboseOption = False,
    calibration: options.CalibrationOption = None,
    calibration_field: options.CalibrationFieldOption = "text",
    max_drop: options.MaxDropOption = None,
    evaluation: Annotated[
        str | None,
        typer.Option(
            "--eval",
            help="Scored pairs (.csv, .tsv, .jsonl: sentence1, sentence2, score). With --max-drop: what the drop is "
            "measured on. For target static: what distillation costs. Default: no pairs, cosine to torch.",
        ),
    ] = None,
    evaluation_fields: options.EvaluationFieldsOption = options.PAIR_FIELDS,
    pca_dims: Annotated[
        str, typer.Option(help="For target static: dimensions to keep; all keeps the network's.")
    ] = str(PCA_DIMS),
    layout: Annotated[
        str | None,
        typer.Option(
            help="Name files so that this library reads the folder, too: transformers.js, optimum.", show_default=False
        ),
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Compile a model, prove the result against sentence-transformers, and publish it.

    Nothing is published when parity fails (exit code 1) or when it is interrupted: what was at the output before
    stays as it was.

    Examples:

    stcompile export all-MiniLM-L6-v2/ --target onnx-int8 -o minilm-int8

    stcompile export all-MiniLM-L6-v2/ --target onnx-int8 --calibration mine.jsonl --max-drop 0.3%

    stcompile export all-MiniLM-L6-v2/ --target static --eval stsb-test.csv
    """
    Target.parse(target)
    drop = None if max_drop is None else read_share(max_drop)
    dims = _dims(pca_dims)
    destination = output or Path(f"{options.name_of(model)}-{target}")
    require("torch", "Compiling a model")
    from stcompile.compiler.export import run_export  # noqa: PLC0415 - imports torch
    from stcompile.compiler.request import ExportOptions  # noqa: PLC0415 - the same

    asked = ExportOptions(
        target,
        provider=provider,
        packed=packed,
        portable=portable,
        outputs=[name.strip() for name in outputs.split(",")],
        texts=options.texts_in(texts, texts_field),
        min_cosine=min_cosine,
        max_drop=drop,
        calibration=options.calibration_in(calibration, calibration_field),
        evaluation=options.pairs_in(evaluation, evaluation_fields),
        pca_dims=dims,
        layout=layout,
    )
    source = ModelSource(
        model, revision, cache_dir, trust_remote_code, follow_links, sparse, options.modalities_in(modalities), file
    )
    artifact = run_export(source, destination, asked, spinner)
    report = read_report(artifact)
    plan, distillation, parity = report.quantization, report.distillation, report.parity.to_dict()
    if as_json:
        found = {"artifact": str(artifact.folder), "target": target, "size": artifact.size, "parity": parity}
        quality = {} if distillation is None else {"distillation": dataclasses.asdict(distillation)}
        planned = {} if plan is None else {"quantization": dataclasses.asdict(plan)}
        print_json({**found, **quality, **planned})
        return
    if plan is not None and plan.budget is not None:
        out.print(render.plan(dataclasses.asdict(plan)))
    out.print(render.parity(artifact.manifest.target, parity))
    if distillation is not None:
        out.print(render.distillation(dataclasses.asdict(distillation)))
    out.print(f"{artifact.folder}: {render.megabytes(artifact.size)}", highlight=False, soft_wrap=True)


def _dims(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal() or not int(text):
        raise InputError(f"--pca-dims {text} is no number of dimensions: give a whole number from 1, or all")
    return int(text)
