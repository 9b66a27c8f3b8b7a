"""`stcompile rerank`: documents by their score for a query, without torch."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from stcompile.cli import render
from stcompile.cli.console import out, reader_may_leave
from stcompile.cli.options import CacheOption, DeviceOption, JsonOption
from stcompile.cli.textfiles import STDIN, check_place, read_texts, write_jsonl
from stcompile.errors import InputError
from stcompile.runtime.arguments import local_path

# So few pairs are done before a bar could be read.
_NO_BAR_UP_TO = 64


def rerank(
    artifact: Annotated[
        str,
        typer.Argument(
            help="What `stcompile export` wrote of a reranker, or owner/name on the hub.", show_default=False
        ),
    ],
    documents: Annotated[
        str, typer.Argument(help="Documents: one a line, .jsonl, .csv, .tsv, or - for standard input.")
    ] = STDIN,
    query: Annotated[str | None, typer.Option("--query", "-q", help="What the documents are to answer.")] = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", "-k", help="Keep so many of the best. Default: all.", show_default=False)
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", help="FILE.jsonl for one result a line, or - for a table.")
    ] = STDIN,
    field: Annotated[
        str, typer.Option("--column", "--field", help="The documents' field in JSONL, or column in a table.")
    ] = "text",
    prompt_name: Annotated[
        str | None, typer.Option(help="Which of the model's prompts to put in front of the query.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="Text to put in front of the query.")] = None,
    label: Annotated[
        int | None, typer.Option(help="Of several labels, the one to rank by, from 0.", show_default=False)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Pairs per run of the graph. Default: what is fastest.", show_default=False)
    ] = None,
    cache_dir: CacheOption = None,
    device: DeviceOption = "cpu",
    threads: Annotated[int | None, typer.Option(help="Engine threads. Default: the CPUs this process may use.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Rank documents by a query with a reranker; no torch is involved.

    Each result has corpus_id, the document's position from 0, its score and its text, the best first.

    Example: stcompile rerank ms-marco-int8 --query "how many people live in Berlin?" documents.txt --top-k 3

    Example: stcompile rerank ms-marco-int8 -q "..." documents.jsonl --output ranked.jsonl
    """
    if query is None:
        raise InputError("pass --query: what the documents are to answer")
    if output != STDIN and not output.endswith(".jsonl"):
        raise InputError(f"cannot tell the format of {output}: name it .jsonl")
    if output != STDIN and as_json:
        raise InputError("--json prints, and --output writes a file: pass one of them")
    if output != STDIN:
        check_place(local_path(output))
    texts = read_texts(documents, field)
    from stcompile.runtime.reranker import Reranker  # noqa: PLC0415 - imports numpy and the engine

    reranker = Reranker.load(artifact, cache_dir=cache_dir, device=device, threads=threads)
    found = reranker.rank(
        query,
        texts,
        top_k,
        True,
        prompt_name,
        prompt,
        batch_size,
        sys.stderr.isatty() and len(texts) > _NO_BAR_UP_TO,
        label=label,
    )
    if output != STDIN:
        write_jsonl(str(local_path(output)), found)
    elif as_json:
        with reader_may_leave():
            write_jsonl(STDIN, found)
    else:
        out.print(render.ranking(query, found))
