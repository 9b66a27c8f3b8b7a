"""`stcompile verify`: an artifact against its model, for CI."""

from __future__ import annotations

from typing import Annotated

import typer

from stcompile.cli import options, render
from stcompile.cli.console import out, print_json, spinner
from stcompile.compiler.stack.source import ModelSource
from stcompile.errors import ParityError
from stcompile.extras import require


def verify(
    artifact: options.ArtifactArgument,
    against: Annotated[str, typer.Option(help="The model it was compiled from: folder or hub id.", show_default=False)],
    texts: options.TextsOption = None,
    texts_field: options.TextsFieldOption = "text",
    min_cosine: options.MinCosineOption = None,
    device: options.DeviceOption = "cpu",
    revision: options.RevisionOption = None,
    cache_dir: options.CacheOption = None,
    trust_remote_code: options.TrustOption = False,
    follow_links: options.FollowOption = False,
    sparse: options.SparseOption = False,
    verbose: options.VerboseOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Check an artifact against its model, for CI: exit code 0 within tolerance, 1 not.

    Example: stcompile verify minilm-int8 --against all-MiniLM-L6-v2/ --min-cosine 0.98
    """
    require("torch", "Verifying against a model")
    from stcompile.compiler.parity.verify import verify_artifact  # noqa: PLC0415 - imports torch

    source = ModelSource(against, revision, cache_dir, trust_remote_code, follow_links, sparse)
    with spinner("Encoding with sentence-transformers and with the artifact"):
        report = verify_artifact(
            artifact, source, texts=options.texts_in(texts, texts_field), min_cosine=min_cosine, device=device
        )
    if as_json:
        print_json(report.to_dict())
    else:
        out.print(render.parity(report.target, report.to_dict()))
    if not report.passed:
        raise ParityError(f"{artifact} is not within tolerance: {'; '.join(report.failures)}")
