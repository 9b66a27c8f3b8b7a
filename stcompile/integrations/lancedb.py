"""LanceDB: the embedding function `stcompile` of its registry."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from lancedb.embeddings import TextEmbeddingFunction, register
from pydantic import field_validator

from stcompile.integrations._opened import DENSE, opened


@register("stcompile")
class StcompileEmbeddings(TextEmbeddingFunction):
    """Texts by `encode_document`, queries by `encode_query`.

        function = get_registry().get("stcompile").create(artifact="minilm-int8")

    Attributes:
        artifact: an encoder's folder, or name on the hub: tables keep it. Errors of opening it as of `stcompile.load`.
    """

    artifact: str

    @field_validator("artifact", mode="before")
    @classmethod
    def _as_kept(cls, artifact: Any) -> Any:
        return str(artifact) if isinstance(artifact, Path) else artifact

    def ndims(self) -> int:
        """Width of a vector."""
        found: int = self._encoder.get_embedding_dimension()
        return found

    def generate_embeddings(self, texts: Any, *_: Any, **__: Any) -> list[Any]:
        """A vector of each text."""
        return list(self._encoder.encode_document(list(texts), show_progress_bar=False))

    def compute_query_embeddings(self, query: Any, *_: Any, **__: Any) -> list[Any]:
        """The vector of a query."""
        return list(np.atleast_2d(self._encoder.encode_query(query, show_progress_bar=False)))

    @cached_property
    def _encoder(self) -> Any:
        return opened(self.artifact, DENSE)
