"""`stcompile encode` of what makes vectors of several kinds: one line a text, or one file of all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stcompile.cli.console import reader_may_leave
from stcompile.cli.textfiles import write_arrays, write_jsonl
from stcompile.runtime.arguments import local_path
from stcompile.runtime.late_interaction import behind_each_other
from stcompile.runtime.sparse_vectors import SparseVectors

if TYPE_CHECKING:
    from stcompile.runtime.hybrid_embeddings import HybridEmbeddings
    from stcompile.runtime.hybrid_encoder import HybridEncoder


def write_hybrid(
    output: str, encoder: HybridEncoder, rows: Iterator[tuple[str, HybridEmbeddings]], *, token_weights: bool
) -> None:
    """Writes texts with their vectors as JSONL, or vectors alone as `.npz`.

    In that are those of `dense` `(n, dim)`, `indices`, `values` and `indptr` `(n + 1,)` that there are, and `vectors`
    `(all, dim)` with `offsets` `(n + 1,)`.
    """
    if output.endswith(".npz"):
        arrays = _arrays([found for _, found in rows], encoder.token_dim)
        write_arrays(local_path(output), **arrays)
        return
    with reader_may_leave():
        write_jsonl(
            output, ({"text": text, **_as_json(found, encoder, token_weights=token_weights)} for text, found in rows)
        )


def _as_json(found: HybridEmbeddings, encoder: HybridEncoder, *, token_weights: bool) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if found.dense is not None:
        row["dense"] = found.dense.tolist()
    if found.sparse is not None:
        row["sparse"] = encoder.token_weights(found.sparse) if token_weights else found.sparse.to_dict()
    if found.multi_vector is not None:
        row["multi_vector"] = found.multi_vector.tolist()
    return row


def _arrays(texts: list[HybridEmbeddings], dim: int) -> dict[str, Any]:
    first = texts[0]
    arrays: dict[str, Any] = {}
    if first.dense is not None:
        arrays["dense"] = np.stack([found.dense for found in texts if found.dense is not None])
    if first.sparse is not None:
        vectors = SparseVectors.of([found.sparse for found in texts], first.sparse.dim)
        arrays |= {"indices": vectors.indices, "values": vectors.values, "indptr": vectors.indptr}
    if first.multi_vector is not None:
        pieces = [found.multi_vector for found in texts]
        arrays["vectors"], arrays["offsets"] = behind_each_other(pieces, dim)
    return arrays
