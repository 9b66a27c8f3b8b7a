"""Names of dimensions that are the tokens of a vocabulary."""

from __future__ import annotations

from typing import Any

import numpy as np

from stcompile.errors import InputError
from stcompile.runtime.inputs import at_least_one
from stcompile.runtime.sparse_vectors import Sparse, SparseVector, SparseVectors, as_sparse


class Vocabulary:
    """Reads sparse vectors, of which each dimension is a token.

    Args:
        tokenizer: of the tokenizers library.
        dim: width of the vectors; the network's vocabulary may be larger than the tokenizer's.
    """

    def __init__(self, tokenizer: Any, dim: int) -> None:
        self._tokenizer = tokenizer
        self._dim = dim

    def decode(self, embeddings: Sparse, top_k: int | None) -> Any:
        """Of each vector `(token, weight)`, the heaviest first, of equal ones the first; of a single one its own.

        Raises:
            InputError: no vectors of this width, or `top_k` is no number from 1 on.
        """
        keep = None if top_k is None else at_least_one("top_k", top_k)
        vectors, single = self._own("decode", embeddings)
        found = [self._named(vector, keep) for vector in vectors]
        return found[0] if single else found

    def token_weights(self, embeddings: Sparse) -> Any:
        """Of each vector token to weight, without zeros, less, and what has no name; of a single one its own.

        Raises:
            InputError: no vectors of this width.
        """
        vectors, single = self._own("token_weights", embeddings)
        weights = [
            {token: value for token, value in self._named(vector, None) if value > 0 and token is not None}
            for vector in vectors
        ]
        return weights[0] if single else weights

    def _own(self, what: str, embeddings: Sparse) -> tuple[SparseVectors, bool]:
        vectors, single = as_sparse(what, embeddings)
        if len(vectors) and vectors.dim != self._dim:
            raise InputError(f"{what} takes vectors of {self._dim} dimensions, got {vectors.dim}")
        return vectors, single

    def _named(self, vector: SparseVector, keep: int | None) -> list[tuple[str | None, float]]:
        order = np.argsort(-vector.values, kind="stable")[:keep]
        tokens = (self._token(int(index)) for index in vector.indices[order])
        return list(zip(tokens, vector.values[order].tolist(), strict=True))

    def _token(self, index: int) -> str | None:
        token: str | None = self._tokenizer.id_to_token(index)
        return token
