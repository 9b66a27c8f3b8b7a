"""What `predict` is called with, checked: pairs of texts, and texts by themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from stcompile.errors import InputError
from stcompile.runtime.inputs import check_many, checked
from stcompile.runtime.text.base import Text

# A pair, or a text in its place; or any number of these.
Pairs = str | Sequence[str] | Iterable[str | Sequence[str]]


def listed_pairs(inputs: Any) -> tuple[list[Any], bool]:
    """The items of what was passed as pairs, and whether it was a single one by itself.

    A list whose first item is no list is one pair, as sentence-transformers reads it; so is an array `(2,)`.

    Raises:
        InputError: it is no list of pairs.
    """
    if isinstance(inputs, str):
        return [inputs], True
    if isinstance(inputs, np.ndarray):
        if inputs.ndim not in (1, 2) or (inputs.size and inputs.shape[-1] != 2):
            raise InputError(f"predict takes arrays of pairs (n, 2) or one pair (2,), got shape {inputs.shape}")
        return (inputs.tolist(), False) if inputs.ndim == 2 or not inputs.size else ([inputs.tolist()], True)
    check_many(inputs, "predict")
    found = list(inputs)
    if isinstance(inputs, (list, tuple)) and found and not isinstance(found[0], (list, tuple, np.ndarray)):
        return [found], True
    return found, False


def read_pairs(items: Iterable[Any]) -> list[Text]:
    """Pairs and texts.

    Raises:
        InputError: an item is neither.
    """
    return [_read(item, place) for place, item in enumerate(items)]


def _read(item: Any, place: int) -> Text:
    if isinstance(item, (list, tuple)) and len(item) != 2:
        raise InputError(
            f"item {place} has {len(item)} parts, and a pair has two texts: pass [query, document], or a list of such "
            "pairs; predict('text') scores one text by itself"
        )
    return checked(item, place)
