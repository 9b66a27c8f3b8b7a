"""`stcompile push`: an artifact to the Hugging Face hub, with a card that carries its proof."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from stcompile.artifact import open_artifact
from stcompile.cli import options
from stcompile.cli.console import err, out, print_json, spinner, write_out
from stcompile.compiler.stack.source import ModelSource
from stcompile.errors import InputError, ParityError
from stcompile.extras import require
from stcompile.runtime.arguments import local_path


def push(
    artifact: Annotated[str, typer.Argument(help="What `stcompile export` wrote.", show_default=False)],
    repository: Annotated[
        str, typer.Argument(help="owner/name on the hub; made where there is none.", show_default=False)
    ],
    against: Annotated[
        str | None,
        typer.Option(
            help="The model it was compiled from: verified once more, and timed beside it for the card.",
            show_default=False,
        ),
    ] = None,
    speed: Annotated[bool, typer.Option(help="Measure texts a second for the card, on this machine.")] = True,
    licence: Annotated[
        str | None,
        typer.Option("--license", help="The model's, as the hub calls it: apache-2.0, mit.", show_default=False),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, made where there is none. Default: main.", show_default=False)
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a repository that only its owner sees.")] = False,
    message: Annotated[
        str, typer.Option(help="Of the commit. Default: which target was pushed.", show_default=False)
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the card, and push nothing.")] = False,
    device: options.DeviceOption = "cpu",
    cache_dir: options.CacheOption = None,
    trust_remote_code: options.TrustOption = False,
    follow_links: options.FollowOption = False,
    sparse: options.SparseOption = False,
    file: options.FileOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Push an artifact to the Hugging Face hub, where stcompile.load("owner/name") finds it.

    The files of the artifact and a card with its proof, sizes, speed and how it was made, in one commit. An earlier
    artifact there is replaced, files of it that are no more are deleted, and nothing else is overwritten. Who you are,
    `hf auth login` or HF_TOKEN says; HF_ENDPOINT is another hub than huggingface.co.

    Example: stcompile push minilm-int8 acme/minilm-int8 --license apache-2.0

    Example: stcompile push minilm-int8 acme/minilm-int8 --against all-MiniLM-L6-v2/ --revision v2

    Example: stcompile push minilm-int8 acme/minilm-int8 --dry-run > README.md
    """
    if dry_run and as_json:
        raise InputError("--dry-run prints the card, and --json what was pushed: pass one of them")
    if against is None and (cache_dir or trust_remote_code or follow_links or sparse or file):
        raise InputError(
            "--cache-dir, --trust-remote-code, --follow-links, --sparse and --file are of the model: pass --against"
        )
    from stcompile.compiler.hub import check_repository  # noqa: PLC0415 - imports what the hub needs
    from stcompile.compiler.hub import push as pushed  # noqa: PLC0415 - the same
    from stcompile.reports.card import card, is_ours  # noqa: PLC0415 - imports numpy

    check_repository(repository)
    opened = open_artifact(local_path(artifact))
    found: Any = None
    if against is not None:
        require("torch", "Verifying against a model")
        from stcompile.compiler.parity.verify import verification  # noqa: PLC0415 - imports torch

        source = ModelSource(against, None, cache_dir, trust_remote_code, follow_links, sparse, file=file)
        with spinner("Encoding with sentence-transformers and with the artifact"):
            judged = verification(opened.folder, source, device=device, speed=speed)
        if not judged.passed:
            raise ParityError(f"{artifact} is not within tolerance: {'; '.join(judged.parity.failures)}")
        found = judged.speed
    elif speed:
        from stcompile.compiler.parity.probes import probe_texts  # noqa: PLC0415 - for this alone
        from stcompile.compiler.parity.speed import throughput  # noqa: PLC0415 - imports the engine

        with spinner("Measuring its speed"):
            found = throughput(opened, probe_texts(), device)
    content = card(opened, repository, revision=revision, licence=licence, speed=found)
    if dry_run:
        write_out(content)
        return
    with spinner(f"Pushing to {repository}"):
        address, has_card = pushed(
            opened, repository, content, is_ours, revision=revision, private=private, message=message
        )
    if as_json:
        print_json({"repository": repository, "commit": address, "size": opened.size, "card": has_card})
    else:
        if not has_card:
            err.print("README.md there was written or changed by people: it stays as it is", highlight=False)
        out.print(address, highlight=False, soft_wrap=True)
