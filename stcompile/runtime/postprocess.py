"""What sentence-transformers' `encode` does after the last module (module-stack spec, section 12)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcompile.errors import InputError

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")

# Those that take each vector for itself.
ROW_BY_ROW = ("float32", "binary", "ubinary")

_TINY = np.float32(1e-12)

# Numbers in between that are held at once, as float32: 1 MiB, which a CPU's cache holds.
_TILE = 1 << 18

Matrix = NDArray[np.float32]


def normalize(embeddings: Matrix) -> Matrix:
    """Rows divided by `max(length, 1e-12)`, as `torch.nn.functional.normalize` does; zeros stay zeros."""
    lengths = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    result: Matrix = embeddings / np.maximum(lengths, _TINY)
    return result


def empty(count: int, dim: int, precision: str) -> NDArray[Any]:
    """Room for that many vectors of so many dimensions."""
    if precision in ("binary", "ubinary"):
        return np.empty((count, -(-dim // 8)), dtype=np.int8 if precision == "binary" else np.uint8)
    return np.empty((count, dim), dtype=precision)


def check_count(count: int, precision: str) -> None:
    """Refuses ranges of a single vector.

    Raises:
        InputError: int8 or uint8 of one text.
    """
    if count == 1 and precision not in ROW_BY_ROW:
        raise InputError(
            f"precision={precision!r} takes its ranges from the texts of the call and needs at least two: "
            "pass more texts, or ask for float32, binary or ubinary"
        )


def by_row(embeddings: Matrix, precision: str) -> NDArray[np.generic]:
    """Embeddings in one of `ROW_BY_ROW`, as `sentence_transformers.util.quantize_embeddings` makes them.

    Args:
        embeddings: float32 `(n, dim)`.
        precision: `float32`; or `binary`, `ubinary`, which pack the signs of 8 dimensions into a byte.

    Returns:
        `(n, dim)` float32, or `(n, ceil(dim / 8))` int8 or uint8.
    """
    if precision == "float32":
        return embeddings
    bits: NDArray[np.uint8] = np.packbits(embeddings > 0, axis=-1)
    return bits if precision == "ubinary" else np.subtract(bits, 128).astype(np.int8)


def quantize(embeddings: Matrix, precision: str, ranges: NDArray[np.float32]) -> NDArray[np.generic]:
    """Embeddings in 8 bits, as `sentence_transformers.util.quantize_embeddings` (5.7 and later) makes them.

    Args:
        embeddings: float32 `(n, dim)`.
        precision: `int8` or `uint8`.
        ranges: float32 `(2, dim)`: the lowest and highest value of each dimension; what is outside is cut.

    Returns:
        `(n, dim)` int8 or uint8.
    """
    result = empty(len(embeddings), embeddings.shape[1], precision)
    low, high = ranges
    step = (high - low) / np.float32(255)
    step[step == 0] = 1
    rows = max(1, _TILE // max(1, embeddings.shape[1]))
    for start in range(0, len(embeddings), rows):
        levels = embeddings[start : start + rows] - low
        levels /= step
        np.clip(np.floor(levels, out=levels), 0, 255, out=levels)
        if precision == "int8":
            levels -= 128
        result[start : start + rows] = levels
    return result


def similarity(name: str, left: Matrix, right: Matrix) -> Matrix:
    """Every row of `left` against every row of `right`: `(n, m)` float32, larger is more alike.

    `cosine`, `dot`, negative `euclidean` and negative `manhattan` distance, as in
    `sentence_transformers.util.similarity`.
    """
    if name == "cosine":
        return similarity("dot", normalize(left), normalize(right))
    if name == "dot":
        product: Matrix = left @ right.T
        return product
    # From the differences themselves: |a|^2 + |b|^2 - 2ab loses what sets near neighbours apart.
    distances = np.empty((len(left), len(right)), dtype=np.float32)
    pairs = max(1, _TILE // max(1, left.shape[1]))
    wide = max(1, min(pairs, len(right)))
    high = max(1, pairs // wide)
    for top in range(0, len(left), high):
        for start in range(0, len(right), wide):
            tile = left[top : top + high, None] - right[None, start : start + wide]
            lengths = np.sqrt(np.einsum("ijk,ijk->ij", tile, tile)) if name == "euclidean" else np.abs(tile).sum(-1)
            distances[top : top + high, start : start + wide] = lengths
    return np.negative(distances, out=distances)


def similarity_pairwise(name: str, left: Matrix, right: Matrix) -> Matrix:
    """Each row of `left` against the same row of `right`, `(n,)` float32: the measures of `similarity`."""
    if name == "cosine":
        return similarity_pairwise("dot", normalize(left), normalize(right))
    if name == "dot":
        products: Matrix = np.einsum("...i,...i->...", left, right)
        return products
    apart = left - right
    lengths: Matrix = np.linalg.norm(apart, axis=-1) if name == "euclidean" else np.abs(apart).sum(-1)
    return np.negative(lengths)


def token_rows(hidden: Matrix, mask: NDArray[np.int64], *, pads_to_multiple: bool) -> list[Matrix]:
    """Token embeddings of a batch, text by text, without what was padded: copies.

    Args:
        hidden: float32 `(batch, sequence, hidden)`.
        mask: int64 `(batch, sequence)`, zero where padded.
        pads_to_multiple: whether the batch is wider than its longest text for the engine's sake.

    Returns:
        float32 `(tokens, hidden)` of each text. Trailing padding only is removed: sentence-transformers leaves the
        padding of left-padded rows in place.
    """
    first = _surplus(mask) if pads_to_multiple else 0
    ends = np.maximum(mask.shape[1] - np.argmax(mask[:, ::-1], axis=1), 1)
    ends[~mask.any(axis=1)] = 1
    return [rows[first:end].copy() for rows, end in zip(hidden, ends, strict=True)]


def _surplus(mask: NDArray[np.int64]) -> int:
    """Leading positions that no row of the batch needs: what was padded on the left for the engine's sake alone."""
    return int(np.argmax(mask.any(axis=0))) if mask.any() else 0
