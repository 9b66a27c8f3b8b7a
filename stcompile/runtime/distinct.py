"""Equal texts are computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stcompile.runtime.text.base import Text


@dataclass(frozen=True)
class Distinct:
    """The different texts of a call.

    Attributes:
        texts: each once, in the order of their first appearance.
        places: position in `texts` of each text of the call; None where all differ.
        counts: how often each of `texts` appears; None where all differ.
    """

    texts: list[Text]
    places: NDArray[np.int64] | None
    counts: NDArray[np.int64] | None

    @classmethod
    def of(cls, texts: list[Text]) -> Distinct:
        """Of texts and pairs of texts, a pair being equal to the same pair alone."""
        place_of: dict[Text, int] = {}
        for text in texts:
            place_of.setdefault(text, len(place_of))
        if len(place_of) == len(texts):
            return cls(texts, None, None)
        places = np.fromiter((place_of[text] for text in texts), dtype=np.int64, count=len(texts))
        return cls(list(place_of), places, np.bincount(places))

    def count(self, rows: Sequence[int]) -> int:
        """How many texts of the call some of `texts` stand for."""
        return len(rows) if self.counts is None else int(self.counts[list(rows)].sum())
