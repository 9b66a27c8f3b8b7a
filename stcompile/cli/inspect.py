"""`stcompile inspect`: what a model folder or an artifact is."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from stcompile.cli import options, render
from stcompile.cli.console import BAD_INPUT, out, print_json
from stcompile.compiler.stack.source import ModelSource


def inspect(
    path: Annotated[str, typer.Argument(help="A model folder, a hub id or an artifact.", show_default=False)],
    revision: options.RevisionOption = None,
    cache_dir: options.CacheOption = None,
    trust_remote_code: Annotated[bool, typer.Option(help="Count modules whose code comes with the model.")] = False,
    follow_links: options.FollowOption = False,
    sparse: options.SparseOption = False,
    file: options.FileOption = None,
    modalities: options.ModalitiesOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show what a model folder or an artifact is.

    Of a model folder: its module stack and everything that cannot be compiled. Of an artifact: its manifest, its
    sizes, what each pass rewrote and why it refused, and the proof.
    """
    from stcompile.compiler.inspection import inspect as inspect_path  # noqa: PLC0415 - only this verb needs it

    chosen = options.modalities_in(modalities)
    found = inspect_path(ModelSource(path, revision, cache_dir, trust_remote_code, follow_links, sparse, chosen, file))
    if as_json:
        print_json(found)
    else:
        out.print(render.inspection(found))
    if found["kind"] == "model" and not found["compiles"]:
        sys.exit(BAD_INPUT)
