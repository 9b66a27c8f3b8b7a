"""The command line: verbs to functions. It parses, prints and picks exit codes; the work is elsewhere."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from stcompile import __version__
from stcompile.artifact.target import PCA_DIMS, TARGETS, Target
from stcompile.cli import render
from stcompile.cli.textfiles import (
    STDIN,
    destination_errors,
    moved_into_place,
    read_share,
    read_texts,
    texts_of,
    write_jsonl,
    write_npy,
)
from stcompile.compiler.scored_pairs import COLUMNS, ScoredPair, read_scored_pairs
from stcompile.errors import InputError, MissingExtraError, ParityError, StcompileError
from stcompile.extras import require
from stcompile.runtime.arguments import local_path

DONE, PARITY_FAILED, BAD_INPUT, BUG, INTERRUPTED = 0, 1, 2, 70, 130

_EPILOG = "Exit codes: 0 done, 1 parity failed, 2 bad input or usage, 70 a bug, 130 interrupted."

# So few texts are done before a bar could be read.
_NO_BAR_UP_TO = 64

_PAIR_FIELDS = ",".join(COLUMNS)

logger = logging.getLogger("stcompile")

app = typer.Typer(
    name="stcompile",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Compile a Sentence-Transformers model folder, the whole module stack, into one verified ONNX graph, and "
    "turn text into embeddings without torch.",
    epilog=_EPILOG,
)
# Typer hands out click's BadParameter but not the UsageError above it, and newer releases carry click inside.
_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]

out = Console()
err = Console(stderr=True)

ModelArgument = Annotated[
    str,
    typer.Argument(
        help="Model folder, or a hub id such as org/name or, of sentence-transformers, name.", show_default=False
    ),
]
ArtifactArgument = Annotated[Path, typer.Argument(help="What `stcompile export` wrote.", show_default=False)]
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
RevisionOption = Annotated[str | None, typer.Option(help="Revision of a hub model.")]
CacheOption = Annotated[str | None, typer.Option(help="Where the hub's files are kept.")]
TrustOption = Annotated[bool, typer.Option(help="Run Python code that comes with the model: network and modules.")]


def _be_verbose(value: bool) -> None:
    if value:
        logger.setLevel(logging.DEBUG)


VerboseOption = Annotated[
    bool,
    typer.Option(
        "--verbose",
        callback=_be_verbose,
        help="Show what torch and others print, and the whole trace behind a refusal.",
    ),
]
FollowOption = Annotated[
    bool, typer.Option("--follow-links", help="Take a model folder whose links lead out of it, e.g. to a DVC store.")
]
DeviceOption = Annotated[str, typer.Option(help="Where it runs: cpu, cuda or cuda:1. Never falls back.")]


@app.command(epilog=_EPILOG)
def export(
    model: ModelArgument,
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
    outputs: Annotated[
        str, typer.Option(help="Graph outputs: sentence_embedding, or sentence_embedding,token_embeddings.")
    ] = "sentence_embedding",
    texts: TextsOption = None,
    texts_field: TextsFieldOption = "text",
    min_cosine: BudgetCosineOption = None,
    revision: RevisionOption = None,
    cache_dir: CacheOption = None,
    trust_remote_code: TrustOption = False,
    follow_links: FollowOption = False,
    verbose: VerboseOption = False,
    calibration: CalibrationOption = None,
    calibration_field: CalibrationFieldOption = "text",
    max_drop: MaxDropOption = None,
    evaluation: Annotated[
        str | None,
        typer.Option(
            "--eval",
            help="Scored pairs (.csv, .tsv, .jsonl: sentence1, sentence2, score). With --max-drop: what the drop is "
            "measured on. For target static: what distillation costs. Default: no pairs, cosine to torch.",
        ),
    ] = None,
    evaluation_fields: EvaluationFieldsOption = _PAIR_FIELDS,
    pca_dims: Annotated[
        str, typer.Option(help="For target static: dimensions to keep; all keeps the network's.")
    ] = str(PCA_DIMS),
    as_json: JsonOption = False,
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
    destination = output or Path(f"{_name_of(model)}-{target}")
    require("torch", "Compiling a model")
    from stcompile.compiler.export import export_model  # noqa: PLC0415 - imports torch

    artifact = export_model(
        model,
        destination,
        target,
        provider=provider,
        packed=packed,
        outputs=[name.strip() for name in outputs.split(",")],
        texts=None if texts is None else read_texts(texts, texts_field),
        min_cosine=min_cosine,
        max_drop=drop,
        calibration=_calibration(calibration, calibration_field),
        revision=revision,
        cache_dir=cache_dir,
        trust_remote_code=trust_remote_code,
        follow_links=follow_links,
        evaluation=_pairs(evaluation, evaluation_fields),
        pca_dims=dims,
        step=_spinner,
    )
    plan = artifact.manifest.quantization
    report = json.loads((artifact.folder / "parity.json").read_text(encoding="utf-8"))
    distillation = artifact.manifest.distillation
    if as_json:
        found = {"artifact": str(artifact.folder), "target": target, "size": artifact.size, "parity": report}
        quality = {} if distillation is None else {"distillation": dataclasses.asdict(distillation)}
        planned = {} if plan is None else {"quantization": dataclasses.asdict(plan)}
        _print_json({**found, **quality, **planned})
        return
    if plan is not None and plan.budget is not None:
        out.print(render.plan(dataclasses.asdict(plan)))
    out.print(render.parity(artifact.manifest.target, report))
    if distillation is not None:
        out.print(render.distillation(dataclasses.asdict(distillation)))
    out.print(f"{artifact.folder}: {render.megabytes(artifact.size)}", highlight=False, soft_wrap=True)


@app.command(epilog=_EPILOG)
def tune(
    model: ModelArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The winner's folder. Default: ./NAME-tuned.")
    ] = None,
    texts: Annotated[
        str | None,
        typer.Option(help="Your texts, to measure speed and accuracy on: one a line, .jsonl, .csv or .tsv."),
    ] = None,
    texts_field: TextsFieldOption = "text",
    max_drop: Annotated[str, typer.Option(help="Largest share of accuracy that may be lost.")] = "0.5%",
    targets: Annotated[str | None, typer.Option(help="Candidates, by comma. Default: all that run here.")] = None,
    evaluation: Annotated[
        str | None,
        typer.Option("--eval", help="Scored pairs to measure the drop on. Default: 1 - mean cosine to onnx-fp32."),
    ] = None,
    evaluation_fields: EvaluationFieldsOption = _PAIR_FIELDS,
    calibration: CalibrationOption = None,
    calibration_field: CalibrationFieldOption = "text",
    rounds: Annotated[int, typer.Option(help="Timed runs of each target.")] = 5,
    limit: Annotated[int, typer.Option(help="Most texts to measure on: of more an even sample is taken.")] = 512,
    threads: Annotated[int | None, typer.Option(help="Engine threads. Default: the CPUs this process may use.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Picture of the frontier, .png, .svg or .pdf. Default: OUTPUT-frontier.png.")
    ] = None,
    revision: RevisionOption = None,
    cache_dir: CacheOption = None,
    trust_remote_code: TrustOption = False,
    follow_links: FollowOption = False,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
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
    destination = local_path(output or f"{_name_of(model)}-tuned").absolute()
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
        model,
        destination,
        texts=None if texts is None else read_texts(texts, texts_field),
        max_drop=share,
        targets=None if targets is None else [name.strip() for name in targets.split(",")],
        evaluation=_pairs(evaluation, evaluation_fields),
        calibration=_calibration(calibration, calibration_field),
        rounds=rounds,
        limit=limit,
        threads=threads,
        revision=revision,
        cache_dir=cache_dir,
        trust_remote_code=trust_remote_code,
        follow_links=follow_links,
        step=_spinner,
    )
    found = {"artifact": str(destination), "plot": None if left_out else str(picture), **report.to_dict()}
    with destination_errors(record), moved_into_place(record) as partial:
        partial.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if left_out is None:
        plot_frontier(report, picture)
    if as_json:
        _print_json(found)
        return
    out.print(render.tuning(found))
    out.print(f"{destination}: {report.winner}; {left_out or picture}", highlight=False, soft_wrap=True)


@app.command(epilog=_EPILOG)
def verify(
    artifact: ArtifactArgument,
    against: Annotated[str, typer.Option(help="The model it was compiled from: folder or hub id.", show_default=False)],
    texts: TextsOption = None,
    texts_field: TextsFieldOption = "text",
    min_cosine: MinCosineOption = None,
    device: DeviceOption = "cpu",
    revision: RevisionOption = None,
    cache_dir: CacheOption = None,
    trust_remote_code: TrustOption = False,
    follow_links: FollowOption = False,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check an artifact against its model, for CI: exit code 0 within tolerance, 1 not.

    Example: stcompile verify minilm-int8 --against all-MiniLM-L6-v2/ --min-cosine 0.98
    """
    require("torch", "Verifying against a model")
    from stcompile.compiler.parity.verify import verify_artifact  # noqa: PLC0415 - imports torch

    with _spinner("Encoding with sentence-transformers and with the artifact"):
        report = verify_artifact(
            artifact,
            against,
            texts=None if texts is None else read_texts(texts, texts_field),
            min_cosine=min_cosine,
            device=device,
            revision=revision,
            cache_dir=cache_dir,
            trust_remote_code=trust_remote_code,
            follow_links=follow_links,
        )
    if as_json:
        _print_json(report.to_dict())
    else:
        out.print(render.parity(report.target, report.to_dict()))
    if not report.passed:
        raise ParityError(f"{artifact} is not within tolerance: {'; '.join(report.failures)}")


@app.command(epilog=_EPILOG)
def encode(
    artifact: ArtifactArgument,
    texts: Annotated[
        str, typer.Argument(help="Texts: one a line, .jsonl, .csv, .tsv, or - for standard input.")
    ] = STDIN,
    output: Annotated[
        str, typer.Option("--output", "-o", help="Where the vectors go: FILE.npy, FILE.jsonl, or - for JSONL.")
    ] = STDIN,
    field: TextsFieldOption = "text",
    prompt_name: Annotated[str | None, typer.Option(help="Which of the model's prompts to put in front.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Text to put in front of each text.")] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Texts per run of the graph. Default: what is fastest.", show_default=False),
    ] = None,
    normalize: Annotated[bool, typer.Option("--normalize", help="Scale every vector to length 1.")] = False,
    truncate_dim: Annotated[int | None, typer.Option(help="Keep only the first so many dimensions.")] = None,
    precision: Annotated[str, typer.Option(help="float32, int8, uint8, binary or ubinary.")] = "float32",
    device: DeviceOption = "cpu",
    threads: Annotated[int | None, typer.Option(help="Engine threads. Default: the CPUs this process may use.")] = None,
    task: Annotated[str | None, typer.Option(help="Which route of a Router: query, document, ...")] = None,
) -> None:
    """Turn texts into embeddings with an artifact; no torch is involved.

    Vectors are written while texts are still read, so that neither need fit into memory; but for the precisions int8
    and uint8, whose ranges are taken from all of them.

    Example: echo "Hello world" | stcompile encode minilm-int8
    """
    from stcompile.runtime.encoder import load  # noqa: PLC0415 - imports numpy and the engine

    if output != STDIN and not output.endswith((".npy", ".jsonl")):
        raise InputError(f"cannot tell the format of {output}: name it .npy or .jsonl")
    if output != STDIN:
        _check_output(local_path(output), local_path(artifact), texts if texts == STDIN else str(local_path(texts)))
    found = texts_of(texts, field)
    # What cannot be read is noticed before an engine is started.
    first = list(islice(found, _NO_BAR_UP_TO + 1))
    encoder = load(artifact, device=device, threads=threads)
    waiting: deque[str] = deque()
    # The options are those of `encode`, which checks them.
    options: dict[str, Any] = {
        "prompt_name": prompt_name,
        "prompt": prompt,
        "batch_size": batch_size,
        "show_progress_bar": sys.stderr.isatty() and len(first) > _NO_BAR_UP_TO,
        "normalize_embeddings": normalize,
        "truncate_dim": truncate_dim,
        "precision": precision,
        "task": task,
    }
    if precision in ("int8", "uint8"):
        waiting.extend(chain(first, found))
        vectors = iter(encoder.encode(list(waiting), **options))
    else:
        vectors = encoder.encode_iter(_kept(chain(first, found), waiting), **options)
    rows = ((waiting.popleft(), vector) for vector in vectors)
    if output.endswith(".npy"):
        write_npy(local_path(output), (vector for _, vector in rows))
    else:
        with _reader_may_leave():
            write_jsonl(output, rows)


@app.command(epilog=_EPILOG)
def inspect(
    path: Annotated[str, typer.Argument(help="A model folder, a hub id or an artifact.", show_default=False)],
    revision: RevisionOption = None,
    cache_dir: CacheOption = None,
    trust_remote_code: Annotated[bool, typer.Option(help="Count modules whose code comes with the model.")] = False,
    follow_links: FollowOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a model folder or an artifact is.

    Of a model folder: its module stack and everything that cannot be compiled. Of an artifact: its manifest, its
    sizes, what each pass rewrote and why it refused.
    """
    from stcompile.compiler.inspection import inspect as inspect_path  # noqa: PLC0415 - only this verb needs it

    found = inspect_path(
        path, revision=revision, cache_dir=cache_dir, trust_remote_code=trust_remote_code, follow_links=follow_links
    )
    if as_json:
        _print_json(found)
    else:
        out.print(render.inspection(found))
    if found["kind"] == "model" and not found["compiles"]:
        sys.exit(BAD_INPUT)


@app.command(epilog=_EPILOG)
def targets(as_json: JsonOption = False) -> None:
    """List the targets: what each is for, its tolerance, and whether this machine can run it."""
    rows = [
        {
            "name": target.name,
            "recipe": target.recipe,
            "purpose": target.purpose,
            "batch_invariant": target.batch_invariant,
            "min_cosine": target.tolerance.min_cosine,
            "max_abs_error": target.tolerance.max_abs_error,
            "mean_cosine": target.tolerance.mean_cosine,
            "calibrates": target.calibrates,
            "refusals": list(target.refusals()),
            "caveats": list(target.caveats()),
        }
        for target in TARGETS.values()
    ]
    if as_json:
        _print_json(rows)
    else:
        out.print(render.targets(rows))


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        out.print(__version__, highlight=False)
        raise typer.Exit


def run() -> NoReturn:
    """Runs the command line and exits with its code; an error is one sentence on standard error."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = app(standalone_mode=False) or DONE
        sys.stdout.flush()
    except _USAGE_ERROR as error:
        error.show()
        code = BAD_INPUT
    except ParityError as error:
        code = _failed(error, PARITY_FAILED)
    except StcompileError as error:
        code = _failed(error, BAD_INPUT)
    except OSError as error:
        where = error.filename or ("standard output" if _standard_output_fails() else None)
        _drop_standard_output()
        code = _failed(StcompileError(f"{error.strerror or error}{'' if where is None else f': {where}'}"), BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if os.environ.get("STCOMPILE_DEBUG"):
            raise
        text = f"unexpected {type(error).__name__}: {error}; this is a bug, STCOMPILE_DEBUG=1 shows where"
        code = _failed(StcompileError(text), BUG)
    # Typer answers Ctrl-C with this code by itself, and says nothing.
    if code == INTERRUPTED:
        err.print("stcompile: interrupted; nothing was published", highlight=False)
    sys.exit(code)


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """A reader that has seen enough (`| head`) is no error, and there is nobody left to tell."""
    try:
        yield
    except BrokenPipeError:
        _drop_standard_output()


def _standard_output_fails() -> bool:
    """What could not be written is written once more, so that another failure without a file is not taken for it."""
    try:
        sys.stdout.flush()
    except OSError:
        return True
    return False


def _drop_standard_output() -> None:
    # What is still buffered would fail again when the interpreter exits.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _terminate(*_: object) -> None:
    # Unwinds like Ctrl-C, so that staged files are cleaned up.
    raise KeyboardInterrupt


def _failed(error: StcompileError, code: int) -> int:
    if logger.isEnabledFor(logging.DEBUG):
        traceback.print_exception(error)
    err.print(f"stcompile: {error}", highlight=False, markup=False, soft_wrap=True)
    return code


def _name_of(model: str) -> str:
    # Unlike resolve(), realpath() ends where a link leads back to itself.
    return Path(os.path.realpath(model)).name


def _check_output(output: Path, artifact: Path, texts: str) -> None:
    """Vectors go neither over the texts they are of, nor where they would be no part of an artifact."""
    if texts != STDIN and os.path.realpath(output) == os.path.realpath(texts):
        raise InputError(f"{output} holds the texts: choose another place for their vectors")
    if Path(os.path.realpath(artifact)) in Path(os.path.realpath(output)).parents:
        raise InputError(f"{output} is in the artifact, which holds its own files alone: choose another place")


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


def _calibration(path: str | None, field: str) -> Any:
    if path is None:
        return None
    from stcompile.compiler.quantize.calibration import calibration_set  # noqa: PLC0415 - imports torch

    return calibration_set(read_texts(path, field), Path(path).name)


def _pairs(path: str | None, fields: str) -> list[ScoredPair] | None:
    if path is None:
        return None
    columns = [name.strip() for name in fields.split(",")]
    if len(columns) != len(COLUMNS):
        raise InputError(f"--eval-fields names {len(columns)} columns: name those of the two texts and of the score")
    return read_scored_pairs(path, columns)


def _dims(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal() or not int(text):
        raise InputError(f"--pca-dims {text} is no number of dimensions: give a whole number from 1, or all")
    return int(text)


def _kept(texts: Iterable[str], place: deque[str]) -> Iterator[str]:
    for text in texts:
        place.append(text)
        yield text


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def _spinner(text: str) -> Iterator[Callable[[str], None]]:
    """A step that takes a while; what it yields is told how far the step has come."""
    if not err.is_terminal:
        err.print(f"{text} ...", highlight=False)
        yield lambda _: None
        return
    with err.status(text) as status:
        yield lambda detail: status.update(f"{text}: {escape(detail)}")
    err.print(f"{text}: done", highlight=False)
