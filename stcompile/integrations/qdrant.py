"""Qdrant: dense and sparse vectors as its client takes them, for points and for queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from qdrant_client import models

from stcompile.artifact.manifest import HYBRID, SPARSE
from stcompile.errors import InputError
from stcompile.integrations._opened import DENSE, opened
from stcompile.runtime.hybrid_embeddings import SPARSE as SPARSE_FORM
from stcompile.runtime.sparse_vectors import SparseVector

# What a vector of nothing is divided by, as torch's cosine has it.
_TINY = 1e-12

_DISTANCES = {
    "cosine": models.Distance.COSINE,
    "dot": models.Distance.DOT,
    "euclidean": models.Distance.EUCLID,
    "manhattan": models.Distance.MANHATTAN,
}


class QdrantVectors:
    """Vectors of texts under the names of a collection's.

        vectors = QdrantVectors(dense="minilm-int8", sparse="splade-int8")
        client.create_collection("notes", **vectors.configuration())
        client.upsert("notes", vectors.points(["a text", "another"], payloads=[{"page": 1}, {"page": 2}]))
        client.query_points("notes", query=vectors.query("what?"), using="dense")

    Args:
        dense: a folder of an encoder, or what `stcompile.load` gave; a hybrid encoder makes both kinds.
        sparse: the same of a sparse encoder. Qdrant compares its vectors by dot product alone: those of an encoder that
            compares by cosine are scaled to length 1, which gives the same numbers.

    Raises:
        InputError: none is given, or one is of another kind; a sparse encoder compares by something else.
        ArtifactError, ProviderError, MissingExtraError: as `stcompile.load`.
    """

    def __init__(self, dense: Any = None, sparse: Any = None) -> None:
        self._dense = None if dense is None else opened(dense, DENSE)
        self._sparse = None if sparse is None else opened(sparse, (SPARSE, HYBRID))
        if self._dense is None and self._sparse is None:
            raise InputError("name an artifact: dense=, sparse=, or both")
        # A hybrid encoder's own measure is that of its dense vectors.
        measure = self._sparse.similarity_fn_name if self._sparse is not None and self._sparse.kind == SPARSE else "dot"
        if measure not in ("cosine", "dot"):
            raise InputError(f"Qdrant compares sparse vectors by dot product, and this encoder by {measure}")
        self._scales = measure == "cosine"

    def configuration(self) -> dict[str, Any]:
        """What `create_collection` is told."""
        found: dict[str, Any] = {}
        if self._dense is not None:
            size, distance = self._dense.get_embedding_dimension(), _DISTANCES[self._dense.similarity_fn_name]
            found["vectors_config"] = {"dense": models.VectorParams(size=size, distance=distance)}
        if self._sparse is not None:
            found["sparse_vectors_config"] = {"sparse": models.SparseVectorParams()}
        return found

    def points(
        self,
        texts: Iterable[str],
        ids: Sequence[int | str] | None = None,
        payloads: Sequence[dict[str, Any] | None] | None = None,
    ) -> list[models.PointStruct]:
        """A point of each text, by `encode_document`; without ids they are counted from 0.

        Raises:
            InputError: there are not as many ids or payloads as texts, or texts is one of them.
        """
        if isinstance(texts, str):
            raise InputError("points are made of several texts: pass a list of them")
        texts = list(texts)
        for name, those in (("ids", ids), ("payloads", payloads)):
            if those is not None and len(those) != len(texts):
                raise InputError(f"there are {len(texts)} texts and {len(those)} {name}: pass one for each")
        dense = None if self._dense is None else self._dense.encode_document(texts, show_progress_bar=False)
        sparse = None if self._sparse is None else self._sparse_of(texts, is_query=False)
        return [
            models.PointStruct(
                id=place if ids is None else ids[place],
                vector={
                    **({} if dense is None else {"dense": dense[place].tolist()}),
                    **({} if sparse is None else {"sparse": sparse[place]}),
                },
                payload={"text": text, **((payloads and payloads[place]) or {})},
            )
            for place, text in enumerate(texts)
        ]

    def query(self, text: str, using: str = "dense") -> Any:
        """The vector of a query, by `encode_query`: of the dense kind a list of numbers, of the sparse one its own.

        Raises:
            InputError: there is no such kind here.
        """
        if using not in ("dense", "sparse"):
            raise InputError(f"using must be 'dense' or 'sparse', got {using!r}")
        if using == "sparse":
            return self._sparse_of([text], is_query=True)[0]
        if self._dense is None:
            raise InputError("there is no dense encoder: pass using='sparse'")
        return self._dense.encode_query(text, show_progress_bar=False).tolist()

    def _sparse_of(self, texts: list[str], *, is_query: bool) -> list[models.SparseVector]:
        encoder = self._sparse
        if encoder is None:
            raise InputError("there is no sparse encoder: pass sparse= an artifact")
        if encoder.kind == HYBRID:
            rows = encoder.encode_hybrid(texts, outputs=(SPARSE_FORM,)).sparse
        else:
            rows = (encoder.encode_query if is_query else encoder.encode_document)(texts, show_progress_bar=False)
        return [self._as_qdrant(row) for row in rows]

    def _as_qdrant(self, row: SparseVector) -> models.SparseVector:
        values = row.values
        if self._scales:
            values = values / max(float(np.linalg.norm(values)), _TINY)
        return models.SparseVector(indices=row.indices.tolist(), values=values.tolist())
