"""What the user of a bare engine writes around it: token ids, the batches and their order, and the mean of a text."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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


def unpadded_tokenizer(folder: str, longest: int) -> Any:
    """The original tokenizer, as `tokenizer.json` of a folder holds it, that cuts and never pads."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    return tokenizer


def unit_means(states: Any, lengths: Any) -> Any:
    """Each text's mean over its own tokens, at length 1: `(batch, sequence, hidden)` to `(batch, hidden)`."""
    kept = np.arange(states.shape[1]) < lengths[:, None]
    means = (states * kept[:, :, None]).sum(1) / lengths[:, None]
    return means / np.linalg.norm(means, axis=1, keepdims=True)
