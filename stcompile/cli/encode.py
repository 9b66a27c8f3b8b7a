"""`stcompile encode`: texts to embeddings, without torch."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from stcompile.cli.console import drop_standard_output
from stcompile.cli.options import ArtifactArgument, DeviceOption, TextsFieldOption
from stcompile.cli.textfiles import STDIN, texts_of, write_jsonl, write_npy
from stcompile.errors import InputError
from stcompile.runtime.arguments import local_path

if TYPE_CHECKING:
    from stcompile.runtime.options import Precision

# So few texts are done before a bar could be read.
_NO_BAR_UP_TO = 64


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
    from stcompile.runtime.options import EncodeOptions  # noqa: PLC0415 - the same

    if output != STDIN and not output.endswith((".npy", ".jsonl")):
        raise InputError(f"cannot tell the format of {output}: name it .npy or .jsonl")
    if output != STDIN:
        _check_output(local_path(output), local_path(artifact), texts if texts == STDIN else str(local_path(texts)))
    found = texts_of(texts, field)
    # What cannot be read is noticed before an engine is started.
    first = list(islice(found, _NO_BAR_UP_TO + 1))
    encoder = load(artifact, device=device, threads=threads)
    waiting: deque[str] = deque()
    # Checked by `encode`, as whoever calls it.
    options: dict[str, Any] = vars(
        EncodeOptions(
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=sys.stderr.isatty() and len(first) > _NO_BAR_UP_TO,
            normalize_embeddings=normalize,
            truncate_dim=truncate_dim,
            precision=cast("Precision", precision),
            task=task,
        )
    )
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


def _check_output(output: Path, artifact: Path, texts: str) -> None:
    """Vectors go neither over the texts they are of, nor where they would be no part of an artifact."""
    if texts != STDIN and os.path.realpath(output) == os.path.realpath(texts):
        raise InputError(f"{output} holds the texts: choose another place for their vectors")
    if Path(os.path.realpath(artifact)) in Path(os.path.realpath(output)).parents:
        raise InputError(f"{output} is in the artifact, which holds its own files alone: choose another place")


def _kept(texts: Iterable[str], place: deque[str]) -> Iterator[str]:
    for text in texts:
        place.append(text)
        yield text


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """A reader that has seen enough (`| head`) is no error, and there is nobody left to tell."""
    try:
        yield
    except BrokenPipeError:
        drop_standard_output()
