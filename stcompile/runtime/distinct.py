"""Equal texts are computed once, and images that are one object or one file."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Distinct:
    """The different texts, or images, of a call.

    Attributes:
        texts: each once, in the order of their first appearance.
        places: positions in the call of the first of `texts`, then of the second, and so on; None where all differ.
        ends: where in `places` those of each of `texts` end; None where all differ.
    """

    texts: list[Any]
    places: NDArray[np.int64] | None
    ends: NDArray[np.int64] | None

    @classmethod
    def of(cls, texts: list[Any], places: Sequence[int] | None = None) -> Distinct:
        """Of texts and pairs of texts, a pair being equal to the same pair alone, or of images.

        `places` is where in the call they are; None where they are all of it.
        """
        place_of: dict[Any, int] = {}
        for text in texts:
            place_of.setdefault(text, len(place_of))
        if len(place_of) == len(texts) and places is None:
            return cls(texts, None, None)
        which = np.fromiter((place_of[text] for text in texts), dtype=np.int64, count=len(texts))
        order = np.argsort(which, kind="stable")
        where = order if places is None else np.asarray(places, dtype=np.int64)[order]
        return cls(list(place_of), where, np.cumsum(np.bincount(which)))

    def write(self, rows: Sequence[int], vectors: NDArray[np.generic], result: NDArray[np.generic]) -> int:
        """Puts the vectors of some rows of `texts`, `(len(rows), dim)`, where the call's texts have theirs, `(n, dim)`.

        Returns:
            how many texts of the call they stand for.
        """
        if self.places is None:
            result[rows] = vectors
            return len(rows)
        written = 0
        for row, vector in zip(rows, vectors, strict=True):
            places = self.places_of(row)
            result[places] = vector
            written += len(places)
        return written

    def each(self, row: int, result: Any) -> dict[int, Any]:
        """The result of one of `texts` at each of its places in the call, where it is an object of its own.

        What is done to the result of one text is not done to that of another.
        """
        first, *others = self.places_of(row).tolist()
        return {first: result, **{place: copy(result) for place in others}}

    def count(self, rows: Sequence[int]) -> int:
        """How many texts of the call some rows of `texts` stand for."""
        return len(rows) if self.places is None else sum(len(self.places_of(row)) for row in rows)

    def places_of(self, row: int) -> NDArray[np.int64]:
        """Where in the call one of `texts` is."""
        if self.places is None or self.ends is None:
            return np.array([row])
        return self.places[self.ends[row - 1] if row else 0 : self.ends[row]]
