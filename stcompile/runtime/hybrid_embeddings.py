"""What a hybrid encoder makes of texts, and how alike two of them are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact.manifest import SENTENCE, VECTORS, WEIGHTS, TokenWeights
from stcompile.runtime.sparse_vectors import SparseVector
from stcompile.runtime.text.base import Feeds

# What a text is encoded as, and the output of the graph that it is made of.
DENSE, SPARSE, MULTI_VECTOR = "dense", "sparse", "multi_vector"
OUTPUTS = {DENSE: SENTENCE, SPARSE: WEIGHTS, MULTI_VECTOR: VECTORS}


@dataclass(frozen=True, eq=False)
class HybridEmbeddings:
    """Texts in several forms at once; what was not asked for is None.

    Attributes:
        dense: float32 `(n, dim)`; of a single text `(dim,)`.
        sparse: `SparseVectors` `(n, vocabulary)`; of a single text a `SparseVector`.
        multi_vector: a list of float32 `(tokens, dim)`; of a single text its own.
    """

    dense: NDArray[np.float32] | None = None
    sparse: Any = None
    multi_vector: Any = None


@dataclass(frozen=True, eq=False)
class HybridScores:
    """How alike texts are in each form, float32 `(n, m)`; None where one side lacks it.

    Attributes:
        dense: by the model's own measure.
        sparse: the sum of products of weights.
        multi_vector: MaxSim, as a mean over the vectors of the first.
        combined: the weighted mean of all three that there are.
    """

    dense: NDArray[np.float32] | None
    sparse: NDArray[np.float32] | None
    multi_vector: NDArray[np.float32] | None
    combined: NDArray[np.float32]


def sparse_of(made: NDArray[np.float32], feeds: Feeds, weights: TokenWeights) -> list[SparseVector]:
    """Sparse vectors of a batch: the largest weight of each token that occurs, as in FlagEmbedding's `encode`.

    Args:
        made: weights of tokens, float32 `(batch, sequence, 1)`.
        feeds: what the graph was given.
        weights: which tokens have none.
    """
    ids, mask = feeds["input_ids"], feeds["attention_mask"]
    rows = made[..., 0]
    counts = (mask > 0) & (rows > 0) & ~np.isin(ids, weights.skipped_ids)
    found = []
    for tokens, values, taken in zip(ids, rows, counts, strict=True):
        indices, which = np.unique(tokens[taken], return_inverse=True)
        largest = np.zeros(len(indices), np.float32)
        np.maximum.at(largest, which, values[taken])
        found.append(SparseVector(indices.astype(np.int32), largest, weights.dim))
    return found
