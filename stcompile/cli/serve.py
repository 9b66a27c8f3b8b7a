"""`stcompile serve`: artifacts behind HTTP, without torch."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from stcompile.cli.console import err
from stcompile.cli.options import CacheOption, DeviceOption
from stcompile.errors import InputError
from stcompile.extras import require
from stcompile.runtime.hub import is_repository


def serve(
    artifacts: Annotated[
        list[str],
        typer.Argument(
            help="What `stcompile export` wrote, or owner/name or owner/name@revision on the hub: ARTIFACT, or "
            "NAME=ARTIFACT.",
            show_default=False,
        ),
    ],
    host: Annotated[str, typer.Option(help="Where to listen: 0.0.0.0 for other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8080,
    api_key_file: Annotated[
        str | None,
        typer.Option(
            help="Keys, one a line, of which every request must carry one. STCOMPILE_API_KEY is one, too.",
            show_default=False,
        ),
    ] = None,
    max_batch_tokens: Annotated[int, typer.Option(help="About so many tokens a worker computes at once.")] = 256,
    max_queue: Annotated[int, typer.Option(help="Texts of a model that wait or run; beyond, clients get 429.")] = 4096,
    max_texts: Annotated[int, typer.Option(help="Texts, or documents, of one request.")] = 2048,
    max_body: Annotated[int, typer.Option(help="Bytes of one request.")] = 16 << 20,
    truncate: Annotated[
        bool, typer.Option(help="Cut texts that are too long, where a request does not say; otherwise refuse them.")
    ] = True,
    cors: Annotated[
        list[str] | None,
        typer.Option(help="An origin whose pages may call, or *. May be repeated.", show_default=False),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Engine threads. Default: the CPUs this process may use.")] = None,
    device: DeviceOption = "cpu",
    cache_dir: CacheOption = None,
    grace: Annotated[float, typer.Option(help="Seconds that requests may still take when the server ends.")] = 30.0,
    log_requests: Annotated[bool, typer.Option(help="A line of JSON for each request, without its texts.")] = True,
) -> None:
    """Serve artifacts over HTTP, as OpenAI, text-embeddings-inference, Cohere and Jina do; no torch is involved.

    /v1/embeddings, /v1/rerank, /embed, /embed_sparse, /embed_all, /rerank, /similarity, /tokenize, /info, /health,
    /metrics, and pages at / (a playground) and /docs. Texts of all clients are computed together. Ctrl-C or SIGTERM
    ends it: what was taken is answered first.

    Example: stcompile serve minilm-int8

    Example: stcompile serve embedder=bge-int8 reranker=ms-marco-int8 --port 9000 --api-key-file keys.txt
    """
    for package in ("starlette", "uvicorn", "pydantic", "orjson", "prometheus_client"):
        require(package, "Serving artifacts")
    from stcompile.runtime.loading import load  # noqa: PLC0415 - imports numpy and the engine
    from stcompile.server import logs  # noqa: PLC0415 - needs what was asked for above
    from stcompile.server.app import create_app  # noqa: PLC0415
    from stcompile.server.run import bound, run  # noqa: PLC0415
    from stcompile.server.settings import Settings, api_keys  # noqa: PLC0415

    named = _named(artifacts)
    settings = Settings(
        max_batch_tokens=max_batch_tokens,
        max_queue=max_queue,
        max_texts=max_texts,
        max_body=max_body,
        truncates=truncate,
        api_keys=api_keys(api_key_file, os.environ),
        cors=tuple(cors or ()),
        logs=log_requests,
    )
    # Who ends it gets no error, while artifacts are loaded either: what was taken is answered.
    with contextlib.suppress(KeyboardInterrupt):
        listening = bound(host, port)
        loaded: dict[str, Any] = {}
        for name, path in named.items():
            loaded[name] = load(path, cache_dir=cache_dir, device=device, threads=threads)
            err.print(f"{name}: {loaded[name]!r}", highlight=False, markup=False, soft_wrap=True)
        where = listening.getsockname()
        err.print(f"listening on http://{_shown(where[0])}:{where[1]}", highlight=False, markup=False)
        logs.to_standard_error()
        run(create_app(loaded, settings), listening, grace)


def _named(artifacts: list[str]) -> dict[str, str]:
    """Names to folders: what stands in front of `=`, or the folder's own, or the repository's."""
    found: dict[str, str] = {}
    for given in artifacts:
        name, equals, path = given.partition("=")
        if not equals or Path(given).exists():
            on_the_hub = not Path(given).exists() and is_repository(given.partition("@")[0])
            name, path = given.partition("@")[0] if on_the_hub else Path(given).resolve().name, given
        if not name or not path:
            raise InputError(f"cannot read {given!r}: pass ARTIFACT, or NAME=ARTIFACT")
        if name in found:
            raise InputError(f"two artifacts are called {name!r}: name them, as in one={path}")
        found[name] = path
    return found


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
