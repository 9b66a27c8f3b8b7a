"""`stcompile encode`: texts to embeddings, without torch."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stcompile.artifact.folder import read_manifest
from stcompile.artifact.manifest import ENCODER, HYBRID, IMAGE, TEXT
from stcompile.artifact.space import check_space
from stcompile.cli.console import DONE, reader_may_leave
from stcompile.cli.images import images_of
from stcompile.cli.options import CacheOption, DeviceOption
from stcompile.cli.textfiles import STDIN, check_place, texts_of, write_arrays, write_bytes, write_jsonl, write_npy
from stcompile.errors import InputError
from stcompile.runtime.arguments import local_path
from stcompile.runtime.hub import located

if TYPE_CHECKING:
    from stcompile.runtime.sparse_encoder import SparseEncoder
    from stcompile.runtime.sparse_vectors import SparseVector

# So few texts are done before a bar could be read.
_NO_BAR_UP_TO = 64


def encode(
    artifact: Annotated[
        str,
        typer.Argument(
            help="What `stcompile export` wrote, or owner/name on the hub; with --input also an address.",
            show_default=False,
        ),
    ],
    texts: Annotated[
        str, typer.Argument(help="Texts: one a line, .jsonl, .csv, .tsv, or - for standard input.")
    ] = STDIN,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="Where the vectors go: FILE.npy (sparse, or several a text: FILE.npz), FILE.jsonl, or - for JSONL; "
            "with --input a folder or its address.",
        ),
    ] = STDIN,
    images: Annotated[
        str | None,
        typer.Option(
            help="Images in place of TEXTS: a folder, one, or a file of paths, one a line. Of an artifact with an "
            "image tower.",
            show_default=False,
        ),
    ] = None,
    field: Annotated[
        str,
        typer.Option("--column", "--field", "--texts-field", help="The texts' field in JSONL, or column in a table."),
    ] = "text",
    prompt_name: Annotated[str | None, typer.Option(help="Which of the model's prompts to put in front.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Text to put in front of each text.")] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Texts per run of the graph. Default: what is fastest.", show_default=False),
    ] = None,
    normalize: Annotated[bool, typer.Option("--normalize", help="Scale every vector to length 1.")] = False,
    truncate_dim: Annotated[int | None, typer.Option(help="Keep only the first so many dimensions.")] = None,
    precision: Annotated[
        str, typer.Option(help="float32, int8, uint8, binary or ubinary; with --input also float16.")
    ] = "float32",
    device: DeviceOption = "cpu",
    threads: Annotated[int | None, typer.Option(help="Engine threads. Default: the CPUs this process may use.")] = None,
    max_active_dims: Annotated[
        int | None,
        typer.Option(help="Of a sparse encoder: keep only the so many largest numbers. Default: the model's."),
    ] = None,
    token_weights: Annotated[
        bool,
        typer.Option(
            "--token-weights", help="Of a sparse encoder: JSONL of token to weight, for Elasticsearch or OpenSearch."
        ),
    ] = False,
    outputs: Annotated[
        str | None,
        typer.Option(help="Of a hybrid encoder (bge-m3): some of dense,sparse,multi_vector. Default: all it makes."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="query, document, or another route; its prompt is named by --prompt-name.")
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            help="Parquet, JSONL, CSV, TSV or text (.gz, .zst) to encode into the folder --output: files, folders, "
            "globs, addresses such as s3://...; may be repeated.",
        ),
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option("--id", help="Column that names a row. Default: a number, `row`."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="Another column that goes along; may be repeated."),
    ] = None,
    into: Annotated[str, typer.Option(help="Column of the vectors.")] = "embedding",
    output_format: Annotated[str, typer.Option("--format", help="parquet, npy or lance.")] = "parquet",
    shard_rows: Annotated[
        int | None,
        typer.Option(help="Most rows of a file of the output.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove what another job left, begin anew.")] = False,
    engine: Annotated[str, typer.Option(help="local, or ray for a cluster.")] = "local",
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster. Default: one on this machine.")] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            help="Processes, with cuda a GPU each; Ray's actors, 1:8 for as many as there is room for up to 8. "
            "Default: one.",
            show_default=False,
        ),
    ] = None,
    expect_fingerprint: Annotated[
        str | None,
        typer.Option(
            help="Refuse an artifact whose vectors do not compare with those of the one of this fingerprint (stcompile "
            "inspect tells it); * for a part that may differ.",
            show_default=False,
        ),
    ] = None,
    cache_dir: CacheOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> int:
    """Turn texts into embeddings with an artifact; no torch is involved.

    Vectors are written while texts are still read, so that neither need fit into memory; but for the precisions int8
    and uint8, whose ranges are taken from all of them.

    With --input, files become a folder of files: after a kill the same command goes on, no row is lost or doubled, and
    rows without a text go to _rejects.jsonl. Exit code 1: some files could not be read, the rest is done; or
    no row has a text.

    Example: echo "Hello world" | stcompile encode minilm-int8

    Example: stcompile encode clip-int8 --images photos/ -o photos.npy

    Example: stcompile encode minilm-int8 --input 'data/*.parquet' --column text --id id --output vectors/
    """
    if "://" not in artifact:
        artifact = str(located(artifact, cache_dir=cache_dir))
    if expect_fingerprint is not None:
        check_space(read_manifest(_folder(artifact)).space, expect_fingerprint, Path(artifact))
    if inputs:
        if texts != STDIN or output == STDIN or images:
            raise InputError("--input names the texts and --output a folder for their vectors: pass both, and no TEXTS")
        from stcompile.bulk import BulkOptions, Engine  # noqa: PLC0415 - imports pyarrow
        from stcompile.bulk.options import SHARD_ROWS  # noqa: PLC0415 - the same
        from stcompile.cli.bulk import Asked, encode_in_bulk, workers_of  # noqa: PLC0415 - the same

        bulk = BulkOptions(
            column=field,
            id=id_column,
            keep=tuple(keep or ()),
            into=into,
            format=output_format,
            precision=precision,
            shard_rows=SHARD_ROWS if shard_rows is None else shard_rows,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            normalize_embeddings=normalize,
            truncate_dim=truncate_dim,
            task=task,
            max_active_dims=max_active_dims,
            outputs=_names(outputs),
        )
        if token_weights:
            raise InputError("--token-weights is JSONL of one source: leave it out with --input")
        chosen = Engine(engine, device, threads, *workers_of(workers), address)
        return encode_in_bulk(Asked(artifact, inputs, output, bulk, chosen, overwrite, as_json))
    for_files = {
        "--id": id_column,
        "--keep": keep,
        "--into": into != "embedding",
        "--format": output_format != "parquet",
        "--shard-rows": shard_rows,
        "--overwrite": overwrite,
        "--engine": engine != "local",
        "--address": address,
        "--workers": workers,
        "--json": as_json,
    }
    if asked := [name for name, value in for_files.items() if value]:
        raise InputError(f"{', '.join(asked)} belongs to files: name them with --input")
    # Checked by `encode`, as whoever calls it.
    shared = {"prompt_name": prompt_name, "prompt": prompt, "batch_size": batch_size, "task": task}
    dense = {"normalize_embeddings": normalize, "truncate_dim": truncate_dim, "precision": precision}
    sparse = {"max_active_dims": max_active_dims}
    if images is not None and texts != STDIN:
        raise InputError("--images stands in the place of TEXTS: leave one of them out")
    source = _Source(texts, field) if images is None else _Source(images, field, is_images=True)
    asked_for = _Asked(shared, dense, sparse, token_weights, _names(outputs))
    _stream(artifact, source, output, asked_for, device, threads)
    return DONE


def _folder(artifact: str) -> Path:
    """Where an artifact lies on this machine; one in an object store is copied, as a job of files copies it."""
    if "://" not in artifact:
        return local_path(artifact)
    from stcompile.bulk.artifacts import local_artifact  # noqa: PLC0415 - imports fsspec

    return local_artifact(artifact)


@dataclass(frozen=True)
class _Source:
    """What is encoded: texts of a file and their field or column, or images."""

    name: str
    field: str
    is_images: bool = False

    @property
    def key(self) -> str:
        """What it is called in JSONL."""
        return IMAGE if self.is_images else TEXT

    def given(self, text: str) -> Any:
        """An item as `encode` takes it."""
        return {IMAGE: text} if self.is_images else text


@dataclass(frozen=True)
class _Asked:
    """Options of all artifacts, those of dense and those of sparse vectors, and what to write."""

    shared: dict[str, Any]
    dense: dict[str, Any]
    sparse: dict[str, Any]
    token_weights: bool
    outputs: tuple[str, ...] | None


def _stream(artifact: str, source: _Source, output: str, asked: _Asked, device: str, threads: int | None) -> None:
    """From one source into one file or standard output, in one go."""
    from stcompile.cli.encode_hybrid import write_hybrid  # noqa: PLC0415 - imports numpy and the engine
    from stcompile.runtime.hybrid_embeddings import DENSE  # noqa: PLC0415 - the same
    from stcompile.runtime.hybrid_encoder import HybridEncoder  # noqa: PLC0415 - the same
    from stcompile.runtime.loading import load  # noqa: PLC0415 - the same
    from stcompile.runtime.multi_vector_encoder import MultiVectorEncoder  # noqa: PLC0415 - the same
    from stcompile.runtime.of_kind import TAKEN  # noqa: PLC0415 - the same
    from stcompile.runtime.sparse_encoder import SparseEncoder  # noqa: PLC0415 - the same

    if output != STDIN and not output.endswith((".npy", ".npz", ".jsonl")):
        raise InputError(
            f"cannot tell the format of {output}: name it .npy or .jsonl, sparse and several vectors a text .npz or "
            ".jsonl, or name files with --input"
        )
    if output != STDIN:
        named = source.name if source.name == STDIN else str(local_path(source.name))
        _check_output(local_path(output), local_path(artifact), named)
        check_place(local_path(output))
    found = images_of(source.name) if source.is_images else texts_of(source.name, source.field)
    # What cannot be read is noticed before an engine is started.
    first = list(islice(found, _NO_BAR_UP_TO + 1))
    encoder = load(artifact, device=device, threads=threads)
    if source.is_images and IMAGE not in getattr(encoder, "modalities", ()):
        raise InputError("this artifact has no image tower, and --images names images: leave it out")
    waiting: deque[str] = deque()
    options = {**asked.shared, "show_progress_bar": sys.stderr.isatty() and len(first) > _NO_BAR_UP_TO}
    several = isinstance(encoder, HybridEncoder) and asked.outputs != (DENSE,)
    kind = ENCODER if encoder.kind == HYBRID and not several else encoder.kind
    _check_kind(asked, encoder, kind, output)
    if isinstance(encoder, HybridEncoder) and several:
        results = encoder.encode_hybrid_iter(_kept(chain(first, found), waiting), outputs=asked.outputs, **options)
        pairs = ((waiting.popleft(), result) for result in results)
        write_hybrid(output, encoder, pairs, token_weights=asked.token_weights)
        return
    options |= {name: value for name, value in (asked.dense | asked.sparse).items() if name in TAKEN[kind]}
    if options.get("precision") in ("int8", "uint8"):
        waiting.extend(chain(first, found))
        vectors = iter(encoder.encode([source.given(text) for text in waiting], **options))
    else:
        vectors = encoder.encode_iter(map(source.given, _kept(chain(first, found), waiting)), **options)
    rows = ((waiting.popleft(), vector) for vector in vectors)
    if isinstance(encoder, SparseEncoder):
        _write_sparse(output, encoder, rows, asked)
    elif isinstance(encoder, MultiVectorEncoder) and output.endswith(".npz"):
        _write_ragged(local_path(output), [vectors for _, vectors in rows], encoder.get_embedding_dimension())
    elif output.endswith(".npy"):
        write_npy(local_path(output), (vector for _, vector in rows))
    else:
        with reader_may_leave():
            write_jsonl(output, ({source.key: text, "embedding": vector.tolist()} for text, vector in rows))


def _check_kind(asked: _Asked, encoder: Any, kind: str, output: str) -> None:
    """Whether the options and the file are of what the artifact is.

    Raises:
        InputError: some are of another kind, or the artifact makes no vectors.
    """
    from stcompile.runtime.of_kind import TAKEN, check_of_kind  # noqa: PLC0415 - imports numpy and the engine

    if kind not in TAKEN:
        raise InputError(f"this artifact is a {encoder.kind}, which makes no vectors: use `stcompile rerank`")
    suffix = Path(output).suffix
    given = {
        "normalize_embeddings": (asked.dense["normalize_embeddings"], "--normalize"),
        "truncate_dim": (asked.dense["truncate_dim"] is not None, "--truncate-dim"),
        "precision": (asked.dense["precision"] != "float32", "--precision"),
        "max_active_dims": (asked.sparse["max_active_dims"] is not None, "--max-active-dims"),
        "token_weights": (asked.token_weights, "--token-weights"),
        "outputs": (asked.outputs is not None and encoder.kind != HYBRID, "--outputs"),
        suffix: (suffix in (".npy", ".npz"), output),
    }
    check_of_kind(kind, {name: called for name, (is_given, called) in given.items() if is_given})
    if asked.token_weights and suffix == ".npz":
        raise InputError(f"--token-weights is JSONL, and {output} is not: leave it out, or name the file .jsonl")


def _write_sparse(output: str, encoder: SparseEncoder, rows: Iterator[tuple[str, SparseVector]], asked: _Asked) -> None:
    from stcompile.runtime.sparse_vectors import SparseVectors  # noqa: PLC0415 - imports numpy

    if output.endswith(".npz"):
        found = [vector for _, vector in rows]
        # Routes may differ in width.
        vectors = SparseVectors.of(found, found[0].dim if found else encoder.get_embedding_dimension())
        write_bytes(local_path(output), vectors.save_npz)
        return
    with reader_may_leave():
        write_jsonl(
            output,
            (
                {
                    "text": text,
                    "embedding": encoder.token_weights(vector) if asked.token_weights else vector.to_dict(),
                }
                for text, vector in rows
            ),
        )


def _write_ragged(path: Path, texts: list[Any], dim: int) -> None:
    from stcompile.runtime.late_interaction import behind_each_other  # noqa: PLC0415 - imports numpy

    vectors, offsets = behind_each_other(texts, dim)
    write_arrays(path, vectors=vectors, offsets=offsets)


def _names(asked: str | None) -> tuple[str, ...] | None:
    return None if asked is None else tuple(name.strip() for name in asked.split(","))


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
