"""Which texts run together: batches of like length, in windows that bound the memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

# Tokenized texts held at once. Sorting within a window pads nearly as little as sorting everything,
# and memory stays flat however long the list is: 4 bytes a token, so 16 MB where a text has 256.
WINDOW = 16_384


def windows(count: int) -> Iterator[range]:
    """Consecutive index ranges of at most `WINDOW` that cover `count` texts."""
    for start in range(0, count, WINDOW):
        yield range(start, min(start + WINDOW, count))


def by_length(lengths: Sequence[int], batch_size: int, *, same_length_only: bool = False) -> Iterator[list[int]]:
    """Batches of positions, longest first, so that the batch that needs most memory comes first.

    Args:
        lengths: tokens of each text.
        batch_size: most texts of a batch.
        same_length_only: keep texts of different lengths apart, so that none is padded.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    groups = (list(group) for _, group in groupby(order, key=lengths.__getitem__)) if same_length_only else [order]
    for group in groups:
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


def by_tokens(lengths: Sequence[int], batch_size: int, token_budget: int) -> Iterator[list[int]]:
    """Batches of positions in their order, each of at most `token_budget` tokens; a longer text is one by itself.

    For graphs that take texts behind each other: nothing is padded, so there is nothing to sort.
    """
    batch: list[int] = []
    tokens = 0
    for index, length in enumerate(lengths):
        if batch and (len(batch) == batch_size or tokens + length > token_budget):
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += length
    if batch:
        yield batch
