"""Which tokens of a text have a vector of their own, and what becomes of their vectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact.manifest import TokenRows
from stcompile.runtime.text.base import UNSEEN, Feeds
from stcompile.runtime.token_pooling import TokenPooling


def rows_of(hidden: NDArray[np.float32], feeds: Feeds, rows: TokenRows) -> list[NDArray[np.float32]]:
    """The vectors of each text of a batch: copies.

    Args:
        hidden: float32 `(batch, sequence, dim)`.
        feeds: what the graph was given.
        rows: which tokens count.

    Returns:
        float32 `(tokens, dim)` of each text.

    Raises:
        MissingExtraError: tokens are pooled, and scipy is not installed.
    """
    kept = _kept(feeds, rows)
    pooling = pooling_of(rows)
    found = [text[mask] for text, mask in zip(hidden, kept, strict=True)]
    return found if pooling is None else [pooling.of(text) for text in found]


def pooling_of(rows: TokenRows) -> TokenPooling | None:
    """How vectors of a text are made fewer; None where they are not."""
    if rows.pool_factor == 1 and not rows.normalizes:
        return None
    return TokenPooling(rows.pool_factor, rows.num_protected_tokens, rows.normalizes)


def without_pooling(rows: TokenRows) -> TokenRows:
    """The same, with all vectors kept."""
    return replace(rows, pool_factor=1.0, normalizes=False)


def _kept(feeds: Feeds, rows: TokenRows) -> NDArray[np.bool_]:
    ids, mask = feeds["input_ids"], feeds["attention_mask"]
    kept: NDArray[np.bool_] = (mask > 0) & ((mask != UNSEEN) | rows.keeps_unseen)
    kept[:, : rows.leading] = False
    if rows.skipped_ids:
        kept &= ~np.isin(ids, rows.skipped_ids)
    if rows.kept_ids is not None:
        kept &= np.isin(ids, rows.kept_ids)
    return kept
