"""What the user of a bare engine writes around it: token ids, the batches and their order, and the mean of a text."""

from collections.abc import Callable, Iterator, Sequence
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


def feeds_of(rows: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Token ids of some texts, padded to the longest, as a BERT takes them: int64 `(batch, sequence)` each."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.zeros(mask.shape, np.int64)
    ids[mask] = np.concatenate(rows)
    return {"input_ids": ids, "attention_mask": mask.astype(np.int64), "token_type_ids": np.zeros_like(ids)}


def means_by_length(tokenizer: Any, texts: list[str], dim: int, states: Callable[[dict[str, Any]], Any]) -> Any:
    """Each text's mean at length 1, `(texts, dim)`.

    `states` makes a vector of each token, `(batch, sequence, dim)`, of what `feeds_of` makes.
    """
    rows = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
    found = np.empty((len(rows), dim), np.float32)
    for places in by_length([len(row) for row in rows]):
        batch = [rows[place] for place in places]
        found[places] = unit_means(states(feeds_of(batch)), np.array([len(row) for row in batch]))
    return found
