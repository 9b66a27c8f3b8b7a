"""`stcompile verify`: an artifact against its model, for CI."""

from __future__ import annotations

from typing import Annotated

import typer

from stcompile.cli import render
from stcompile.cli.console import out, print_json, spinner
from stcompile.cli.options import (
    ArtifactArgument,
    CacheOption,
    DeviceOption,
    FollowOption,
    JsonOption,
    MinCosineOption,
    RevisionOption,
    TextsFieldOption,
    TextsOption,
    TrustOption,
    VerboseOption,
    texts_in,
)
from stcompile.errors import ParityError
from stcompile.extras import require


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

    with spinner("Encoding with sentence-transformers and with the artifact"):
        report = verify_artifact(
            artifact,
            against,
            texts=texts_in(texts, texts_field),
            min_cosine=min_cosine,
            device=device,
            revision=revision,
            cache_dir=cache_dir,
            trust_remote_code=trust_remote_code,
            follow_links=follow_links,
        )
    if as_json:
        print_json(report.to_dict())
    else:
        out.print(render.parity(report.target, report.to_dict()))
    if not report.passed:
        raise ParityError(f"{artifact} is not within tolerance: {'; '.join(report.failures)}")
