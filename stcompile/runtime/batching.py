"""Which texts run together: batches of like length, in windows that bound the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

# Tokenized texts held at once. Sorting within a window pads nearly as little as sorting everything,
# and memory stays flat however long the list is: 4 bytes a token, so 4 MB where a text has 256.
WINDOW = 4096

# Positions of a text above which it runs alone: it fills every thread by itself, and two would take twice the memory.
# Up to here graphs make all scores of a text at once, 16 MB for 16 heads.
LONG = 512


@dataclass(frozen=True)
class Limits:
    """How large a batch may get; a single text always may run.

    Attributes:
        texts: most texts; None for no limit.
        tokens: most positions, padding included; None for no limit.
        width: texts of more positions run alone; None for no limit.
    """

    texts: int | None
    tokens: int | None
    width: int | None = None

    def allow(self, texts: int, tokens: int) -> bool:
        """Whether a batch may be that large."""
        return (self.texts is None or texts <= self.texts) and (self.tokens is None or tokens <= self.tokens)

    def texts_of(self, width: int) -> int:
        """Most texts of a batch whose longest takes `width` positions."""
        if self.width is not None and width > self.width:
            return 1
        by_tokens = None if self.tokens is None else self.tokens // max(1, width)
        return max(1, min((limit for limit in (self.texts, by_tokens) if limit is not None), default=2**31))


def windows(count: int) -> Iterator[range]:
    """Consecutive index ranges of at most `WINDOW` that cover `count` texts."""
    for start in range(0, count, WINDOW):
        yield range(start, min(start + WINDOW, count))


def by_length(
    lengths: Sequence[int], width_of: Callable[[int], int], limits: Limits, *, same_length_only: bool = False
) -> Iterator[list[int]]:
    """Batches of positions, longest first, so that the batch that needs most memory comes first.

    `width_of` tells the positions that a text of some length takes in a batch of its own. Where only the same length
    shares a batch, no text is padded.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    groups = (list(group) for _, group in groupby(order, key=lengths.__getitem__)) if same_length_only else [order]
    for group in groups:
        start = 0
        while start < len(group):
            end = start + limits.texts_of(width_of(lengths[group[start]]))
            yield group[start:end]
            start = end


def by_tokens(lengths: Sequence[int], limits: Limits) -> Iterator[list[int]]:
    """Batches of positions in their order.

    For graphs that take texts behind each other: nothing is padded, so there is nothing to sort.
    """
    batch: list[int] = []
    tokens = 0
    for index, length in enumerate(lengths):
        if batch and not limits.allow(len(batch) + 1, tokens + length):
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += length
    if batch:
        yield batch
