"""The batches of every contender, and the order in which the user of a bare engine makes them."""

from collections.abc import Iterator, Sequence

BATCH_SIZE = 32


def by_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Positions of the texts, shortest first, `BATCH_SIZE` at a time."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return (order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE))


def by_tokens(lengths: Sequence[int], tokens: int, texts: int) -> Iterator[list[int]]:
    """Positions of the texts, shortest first, at most so many tokens and texts at a time; a longer one by itself."""
    batch: list[int] = []
    total = 0
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (total + lengths[place] > tokens or len(batch) == texts):
            yield batch
            batch, total = [], 0
        batch.append(place)
        total += lengths[place]
    if batch:
        yield batch
