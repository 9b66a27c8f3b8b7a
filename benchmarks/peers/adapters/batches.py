"""The batches of every contender, and the order in which the user of a bare engine makes them."""

from collections.abc import Iterator, Sequence

BATCH_SIZE = 32


def by_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Positions of the texts, shortest first, `BATCH_SIZE` at a time."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return (order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE))
