"""Fewer vectors of a text: Ward's clusters of its token embeddings, each replaced by its mean.

The math is sentence-transformers' `HierarchicalTokenPooling` (6.0 and later), after Clavie, Chaffin and Adams,
"Reducing the Footprint of Multi-Vector Retrieval with Minimal Performance Impact via Token Pooling" (2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcompile.errors import InputError
from stcompile.extras import require
from stcompile.runtime.postprocess import normalize

_PURPOSE = "Pooling the tokens of a document"


@dataclass(frozen=True)
class TokenPooling:
    """How the token embeddings of a text are made fewer.

    Attributes:
        pool_factor: about one vector of so many is kept, from 1; a fraction such as 1.5 keeps two thirds.
        num_protected_tokens: so many of the first are kept as they are.
        normalize_embeddings: whether all that is kept is scaled to length 1.
    """

    pool_factor: float = 1.0
    num_protected_tokens: int = 1
    normalize_embeddings: bool = True

    def checked(self) -> TokenPooling:
        """The same, its fields checked.

        Raises:
            InputError: one is out of range.
        """
        factor: Any = self.pool_factor
        if isinstance(factor, bool) or not isinstance(factor, (int, float, np.number)) or not factor >= 1:
            raise InputError(f"pool_factor must be a number from 1, got {factor!r}")
        protected: Any = self.num_protected_tokens
        if isinstance(protected, bool) or not isinstance(protected, (int, np.integer)) or protected < 0:
            raise InputError(f"num_protected_tokens must be a whole number from 0, got {protected!r}")
        return TokenPooling(float(factor), int(protected), self.normalize_embeddings)

    def of(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is kept of one text.

        Args:
            vectors: float32 `(tokens, dim)`, of length 1.

        Returns:
            float32 `(kept, dim)`: the protected ones, then a mean a cluster.

        Raises:
            MissingExtraError: scipy is not installed.
        """
        kept, rest = vectors[: self.num_protected_tokens], vectors[self.num_protected_tokens :]
        count = max(int(len(rest) // self.pool_factor), 1)
        if count < len(rest):
            vectors = np.concatenate([kept, _means(rest, count)])
        return normalize(vectors) if self.normalize_embeddings else vectors


def _means(vectors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    hierarchy = require("scipy.cluster.hierarchy", _PURPOSE)
    distance = require("scipy.spatial.distance", _PURPOSE)
    apart = np.clip(1 - vectors @ vectors.T, 0, 2)
    links = hierarchy.linkage(distance.squareform(apart, checks=False), method="ward")
    labels = hierarchy.fcluster(links, t=count, criterion="maxclust")
    # With ties there may be fewer clusters than were asked for.
    _, places, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.zeros((len(sizes), vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, places, vectors)
    sums /= sizes[:, None].astype(np.float32)
    return sums
