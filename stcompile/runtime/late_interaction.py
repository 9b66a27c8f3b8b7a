"""MaxSim: how alike two texts of several vectors each are, as `sentence_transformers.util.similarity` has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcompile.errors import InputError

Vectors = NDArray[np.float32]

# Less than any score of a document with a vector: what one without any scores.
EMPTY = np.float32(-1e9)

# Products that are there at once, as float32: 16 MiB.
_TILE = 1 << 22


def as_texts(what: str, embeddings: Any, mask: Any = None) -> list[Vectors]:
    """Vectors of several texts, in whichever form they come.

    Args:
        what: who asks, for an error.
        embeddings: a list of `(tokens, dim)`, one such matrix, or `(texts, tokens, dim)`, where rows of zeros are no
            vectors; arrays or torch tensors.
        mask: where it is zero a vector is left out: `(texts, tokens)`, `(tokens,)` of one matrix, or a list of such;
            may be wider than a text has vectors. None leaves out none.

    Returns:
        float32 `(tokens, dim)` of each text.

    Raises:
        InputError: it is nothing of that kind, or of several widths.
    """
    if isinstance(embeddings, (list, tuple)):
        found = [_matrix(what, item) for item in embeddings]
    else:
        array = _array(what, embeddings)
        if array.ndim not in (2, 3):
            raise _refused(what, f"an array of {array.ndim} axes")
        mask = [mask] if mask is not None and array.ndim == 2 and np.ndim(mask) == 1 else mask
        found = (
            [array] if array.ndim == 2 else [*array] if mask is not None else [rows[rows.any(axis=1)] for rows in array]
        )
    if mask is not None:
        found = _masked(what, found, mask)
    widths = {rows.shape[1] for rows in found if len(rows)}
    if len(widths) > 1:
        raise InputError(f"{what} takes vectors of one width, got {' and '.join(map(str, sorted(widths)))}")
    return found


def maxsim(
    queries: Sequence[Vectors], documents: Sequence[Vectors], *, by_length: bool = False, most: int = _TILE
) -> Vectors:
    """The sum over a query's vectors of the largest product with a document's, float32 `(queries, documents)`.

    Args:
        queries: float32 `(tokens, dim)` of each.
        documents: the same.
        by_length: divided by how many vectors a query has (MeanMaxSim).
        most: about so many products are there at once, at 4 bytes each.
    """
    scores = np.zeros((len(queries), len(documents)), dtype=np.float32)
    if not len(queries):
        return scores
    longest = max(1, *map(len, queries))
    for part in _parts([len(document) for document in documents], max(1, most // longest)):
        some = documents[part]
        full = [place for place, document in enumerate(some) if len(document)]
        empty = [place for place, document in enumerate(some) if not len(document)]
        if full:
            stacked = np.concatenate([some[place] for place in full])
            starts = np.cumsum([0, *(len(some[place]) for place in full[:-1])])
            columns = part.start + np.array(full)
            for row, query in enumerate(queries):
                if len(query):
                    scores[row, columns] = np.maximum.reduceat(query @ stacked.T, starts, axis=1).sum(axis=0)
        if empty:
            scores[:, part.start + np.array(empty)] = EMPTY
    return scores / _lengths(queries)[:, None] if by_length else scores


def maxsim_pairwise(queries: Sequence[Vectors], documents: Sequence[Vectors], *, by_length: bool = False) -> Vectors:
    """`maxsim` of each query with the document at its place, float32 `(n,)`."""
    found = [maxsim([query], [document])[0, 0] for query, document in zip(queries, documents, strict=True)]
    scores = np.array(found, dtype=np.float32)
    return scores / _lengths(queries) if by_length else scores


def padded(texts: Sequence[Vectors], tokens: int | None, dim: int) -> Vectors:
    """Vectors of several texts in one array, zeros behind those of shorter ones, which `similarity` takes for none.

    Args:
        texts: float32 `(tokens, dim)` of each.
        tokens: how many each text has; None takes those of the longest.
        dim: width of a vector.

    Returns:
        float32 `(texts, tokens, dim)`.

    Raises:
        InputError: a text has more.
    """
    most = max(map(len, texts), default=0)
    if tokens is not None and most > tokens:
        raise InputError(f"a text has {most} vectors, more than {tokens}: pool its tokens, or allow more")
    found = np.zeros((len(texts), most if tokens is None else tokens, dim), dtype=np.float32)
    for place, rows in enumerate(texts):
        found[place, : len(rows)] = rows
    return found


def behind_each_other(texts: Sequence[Vectors], dim: int) -> tuple[Vectors, NDArray[np.int64]]:
    """Vectors of several texts in one matrix, those of a text behind those of the one before it.

    Args:
        texts: float32 `(tokens, dim)` of each.
        dim: width of a vector.

    Returns:
        float32 `(all, dim)`, and where those of each text begin, with the end of the last, `(texts + 1,)`.
    """
    vectors = np.concatenate([np.zeros((0, dim), np.float32), *texts])
    return vectors, np.cumsum([0, *map(len, texts)], dtype=np.int64)


def _lengths(queries: Sequence[Vectors]) -> Vectors:
    return np.array([max(len(query), 1) for query in queries], dtype=np.float32)


def _parts(lengths: Sequence[int], most: int) -> Iterator[slice]:
    """Consecutive texts of at most so many vectors together, one at least."""
    start = total = 0
    for place, length in enumerate(lengths):
        if place > start and total + length > most:
            yield slice(start, place)
            start, total = place, 0
        total += length
    if start < len(lengths):
        yield slice(start, len(lengths))


def _masked(what: str, texts: list[Vectors], mask: Any) -> list[Vectors]:
    rows = [np.asarray(_array(what, item)).reshape(-1) != 0 for item in mask]
    if len(rows) != len(texts) or any(len(text) > len(kept) for text, kept in zip(texts, rows, strict=True)):
        raise InputError(
            f"{what} takes masks as long as the texts they are of: (texts, tokens), or a list of (tokens,)"
        )
    return [text[kept[: len(text)]] for text, kept in zip(texts, rows, strict=True)]


def _matrix(what: str, item: Any) -> Vectors:
    array = _array(what, item)
    if array.ndim != 2:
        raise _refused(what, f"a list with an array of {array.ndim} axes")
    return array


def _array(what: str, item: Any) -> Vectors:
    if hasattr(item, "detach"):
        item = item.detach().cpu().float().numpy()
    try:
        return np.asarray(item, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise _refused(what, f"{type(item).__name__}") from error


def _refused(what: str, found: str) -> InputError:
    return InputError(
        f"{what} takes a list of arrays (tokens, dim), one for each text, as encode gives it, or an array "
        f"(texts, tokens, dim); got {found}"
    )
