"""Arguments and options that several verbs have, and what their values mean."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from stcompile.cli.console import logger
from stcompile.cli.textfiles import read_texts
from stcompile.compiler.scored_pairs import COLUMNS, ScoredPair, read_scored_pairs
from stcompile.errors import InputError

PAIR_FIELDS = ",".join(COLUMNS)


def _be_verbose(value: bool) -> None:
    if value:
        logger.setLevel(logging.DEBUG)


ModelArgument = Annotated[
    str,
    typer.Argument(
        help="Model folder, or a hub id such as org/name or, of sentence-transformers, name.", show_default=False
    ),
]
ArtifactArgument = Annotated[
    str, typer.Argument(help="What `stcompile export` wrote, or owner/name on the hub.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a machine to read.")]
TextsOption = Annotated[
    str | None,
    typer.Option(help="Texts to judge parity on: one a line, .jsonl, .csv or .tsv. Default: built in."),
]
MinCosineOption = Annotated[
    float | None, typer.Option(help="Smallest allowed cosine, in place of the target's tolerance.")
]
BudgetCosineOption = Annotated[
    float | None,
    typer.Option(
        "--min-cosine",
        help="Smallest allowed cosine, in place of the target's tolerance. Targets that calibrate keep layers in "
        "higher precision until it is reached.",
    ),
]
CalibrationOption = Annotated[
    str | None,
    typer.Option(
        help="Texts to calibrate int8 and int4 on: one a line, .jsonl, .csv or .tsv. Yours are better than the "
        "built-in ones."
    ),
]
TextsFieldOption = Annotated[
    str, typer.Option("--texts-field", "--field", help="Their field in JSONL, or their column in a table.")
]
EvaluationFieldsOption = Annotated[
    str, typer.Option("--eval-fields", help="What the two texts and the score are called in them, by comma.")
]
CalibrationFieldOption = Annotated[str, typer.Option(help="Their field in JSONL, or their column in a table.")]
MaxDropOption = Annotated[
    str | None,
    typer.Option(
        help="Accuracy budget, e.g. 0.3%: the cheapest graph that loses no more. Of 1 - mean cosine to torch or, with "
        "--eval, of the rank correlation on your pairs."
    ),
]
RevisionOption = Annotated[str | None, typer.Option(help="Revision of a hub model.", show_default=False)]
CacheOption = Annotated[str | None, typer.Option(help="Where the hub's files are kept.")]
ModalitiesOption = Annotated[
    str | None,
    typer.Option(help="text leaves an image tower out; text,image wants one. Default: all that the model has."),
]
TrustOption = Annotated[bool, typer.Option(help="Run Python code that comes with the model: network and modules.")]
VerboseOption = Annotated[
    bool,
    typer.Option(
        "--verbose",
        callback=_be_verbose,
        help="Show what torch and others print, and the whole trace behind a refusal.",
    ),
]
FollowOption = Annotated[
    bool,
    typer.Option("--follow-links", help="Take a model folder whose links, or an adapter whose base, lie elsewhere."),
]
FileOption = Annotated[
    str | None,
    typer.Option(
        help="Read the network's weights from this ONNX or OpenVINO graph of the folder, e.g. onnx/model.onnx. "
        "Default: weights, and where there are none, the usual graph.",
        show_default=False,
    ),
]
SparseOption = Annotated[
    bool,
    typer.Option(
        "--sparse",
        help="Read a masked language model without modules.json as SparseEncoder does (SPLADE).",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="Where it runs: cpu, cuda or cuda:1. Never falls back.")]


def modalities_in(names: str | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(name.strip() for name in names.split(","))


def name_of(model: str) -> str:
    # Unlike resolve(), realpath() ends where a link leads back to itself.
    return Path(os.path.realpath(model)).name


def calibration_in(path: str | None, field: str) -> Any:
    if path is None:
        return None
    from stcompile.compiler.quantize.calibration import calibration_set  # noqa: PLC0415 - imports torch

    return calibration_set(read_texts(path, field), Path(path).name)


def pairs_in(path: str | None, fields: str) -> list[ScoredPair] | None:
    if path is None:
        return None
    columns = [name.strip() for name in fields.split(",")]
    if len(columns) != len(COLUMNS):
        raise InputError(f"--eval-fields names {len(columns)} columns: name those of the two texts and of the score")
    return read_scored_pairs(path, columns)


def texts_in(path: str | None, field: str) -> list[str] | None:
    """The texts of a file that was named; None where none was."""
    return None if path is None else read_texts(path, field)
