"""`stcompile verify`: an artifact against its model, or against an earlier artifact, for CI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from stcompile.cli import options, render
from stcompile.cli.console import out, print_json, spinner, write_out
from stcompile.cli.textfiles import check_place, write_text
from stcompile.compiler.parity.thresholds import Thresholds, thresholds_in
from stcompile.compiler.stack.source import ModelSource
from stcompile.errors import InputError, ParityError
from stcompile.extras import require
from stcompile.runtime.arguments import local_path


def verify(
    artifact: options.ArtifactArgument,
    against: Annotated[
        str | None, typer.Option(help="The model it was compiled from: folder or hub id.", show_default=False)
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="An earlier artifact in place of the model: whether vectors have moved.", show_default=False),
    ] = None,
    report: Annotated[
        list[str] | None,
        typer.Option(
            help="html, json, junit or markdown, on standard output, or in a file: html=parity.html. May be repeated.",
            show_default=False,
        ),
    ] = None,
    texts: options.TextsOption = None,
    texts_field: options.TextsFieldOption = "text",
    min_cosine: options.MinCosineOption = None,
    mean_cosine: Annotated[float | None, typer.Option(help="Smallest allowed mean of those cosines.")] = None,
    max_abs_error: Annotated[
        float | None, typer.Option(help="Largest allowed difference of a component, on vectors of length 1.")
    ] = None,
    batch_invariance: Annotated[
        float | None, typer.Option(help="Smallest allowed cosine of a text alone and in a batch.")
    ] = None,
    neighbour_overlap: Annotated[
        float | None, typer.Option(help="Smallest allowed share of the ten nearest texts that both agree on.")
    ] = None,
    speed: Annotated[
        bool, typer.Option("--speed", help="Also measure texts a second of both, in turns; no bound judges it.")
    ] = False,
    device: options.DeviceOption = "cpu",
    revision: options.RevisionOption = None,
    cache_dir: options.CacheOption = None,
    trust_remote_code: options.TrustOption = False,
    follow_links: options.FollowOption = False,
    sparse: options.SparseOption = False,
    file: options.FileOption = None,
    verbose: options.VerboseOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Check an artifact against its model, or an earlier artifact, for CI: exit code 0 within tolerance, 1 not.

    Bounds are the target's own, those of [tool.stcompile] in the pyproject.toml of this folder or one above it
    (min-cosine, mean-cosine, max-abs-error, batch-invariance, neighbour-overlap), and the options here, the later ones
    in the place of the earlier.

    Example: stcompile verify minilm-int8 --against all-MiniLM-L6-v2/ --min-cosine 0.98

    Example: stcompile verify minilm-int8 --against all-MiniLM-L6-v2/ --report html=out.html --report junit=out.xml

    Example: stcompile verify minilm-int8 --baseline last-week/minilm-int8
    """
    if (against is None) == (baseline is None):
        raise InputError("verify compares with one thing: name a model with --against, or an artifact with --baseline")
    wanted = [_wanted(item) for item in report or []]
    if sum(file is None for _, file in wanted) + as_json > 1:
        raise InputError("one report goes to standard output: name files for the others, as in --report html=out.html")
    asked = Thresholds(min_cosine, mean_cosine, max_abs_error, batch_invariance, neighbour_overlap)
    bounds = asked.over(thresholds_in(Path.cwd()))
    chosen = options.texts_in(texts, texts_field)
    found: Any
    if against is not None:
        require("torch", "Verifying against a model")
        from stcompile.compiler.parity.verify import verification  # noqa: PLC0415 - imports torch

        source = ModelSource(against, revision, cache_dir, trust_remote_code, follow_links, sparse, file=file)
        with spinner("Encoding with sentence-transformers and with the artifact"):
            found = verification(artifact, source, texts=chosen, thresholds=bounds, device=device, speed=speed)
    else:
        from stcompile.compiler.parity.baseline import drift  # noqa: PLC0415 - imports the engine

        with spinner("Encoding with both artifacts"):
            found = drift(artifact, baseline or "", texts=chosen, thresholds=bounds, device=device, speed=speed)
    from stcompile.reports import report_as  # noqa: PLC0415 - for what was found

    for name, place in wanted:
        content = report_as(name, found)
        if place is None:
            write_out(content)
        else:
            write_text(place, content)
    if as_json:
        print_json(found.parity.to_dict() | ({"speed": found.speed.to_dict()} if found.speed else {}))
    elif all(file is not None for _, file in wanted):
        beside = {} if baseline is None else {"against": found.against}
        out.print(render.parity(found.parity.target, found.parity.to_dict(), **beside))
        if found.speed:
            out.print(Text(f"speed: {found.speed}"))
    if not found.passed:
        raise ParityError(f"{artifact} is not within tolerance: {'; '.join(found.parity.failures)}")


def _wanted(asked: str) -> tuple[str, Path | None]:
    """A format and a file that can be written, None for standard output."""
    from stcompile.reports import FORMATS  # noqa: PLC0415 - as above

    name, given, file = asked.partition("=")
    if name not in FORMATS or (given and not file):
        raise InputError(f"unknown report {asked!r}: choose one of {', '.join(FORMATS)}, with a file as html=out.html")
    if not file:
        return name, None
    place = local_path(file)
    check_place(place)
    return name, place
