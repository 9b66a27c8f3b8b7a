"""Chroma: `StcompileEmbeddingFunction`, registered, so that a collection finds it again by its configuration."""

from __future__ import annotations

from typing import Any

import numpy as np
from chromadb.api.types import Documents, EmbeddingFunction, Embeddings, Space
from chromadb.utils.embedding_functions import register_embedding_function

from stcompile.integrations._opened import DENSE, named, opened

_SPACES: dict[str, Space] = {"cosine": "cosine", "dot": "ip", "euclidean": "l2"}


@register_embedding_function
class StcompileEmbeddingFunction(EmbeddingFunction[Documents]):
    """Documents by `encode_document`, queries by `encode_query`.

        client.create_collection("notes", embedding_function=StcompileEmbeddingFunction("minilm-int8"))

    Args:
        artifact: an encoder's folder, or what `stcompile.load` gave.
        fingerprint: that it must have: what a collection was made with; None takes every artifact.

    Raises:
        InputError: it is no encoder of dense vectors.
        ArtifactError, ProviderError, MissingExtraError: as `stcompile.load`.
    """

    def __init__(self, artifact: Any, fingerprint: str | None = None) -> None:
        self._artifact = named(artifact)
        self._encoder = opened(artifact, DENSE, fingerprint)

    def __call__(self, input: Documents) -> Embeddings:
        return [np.asarray(row) for row in self._encoder.encode_document(list(input), show_progress_bar=False)]

    def embed_query(self, input: Documents) -> Embeddings:
        """Vectors of queries."""
        return [np.asarray(row) for row in self._encoder.encode_query(list(input), show_progress_bar=False)]

    @staticmethod
    def name() -> str:
        """What a collection calls it."""
        return "stcompile"

    def default_space(self) -> Space:
        """The model's own measure, where Chroma has it."""
        return _SPACES.get(self._encoder.similarity_fn_name, "cosine")

    def supported_spaces(self) -> list[Space]:
        """All: vectors are what they are."""
        return ["cosine", "l2", "ip"]

    def get_config(self) -> dict[str, Any]:
        """What a collection keeps of it: the folder, and which vectors its own compare with."""
        return {"artifact": self._artifact, "fingerprint": self._encoder.fingerprint}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> StcompileEmbeddingFunction:
        """Of what a collection kept; another artifact in its place is refused."""
        return StcompileEmbeddingFunction(config["artifact"], config.get("fingerprint"))

    def validate_config_update(self, old_config: dict[str, Any], new_config: dict[str, Any]) -> None:
        """Refuses an artifact whose vectors do not compare with those that are there."""
        if old_config.get("fingerprint") != new_config.get("fingerprint"):
            raise ValueError("the artifact's vectors do not compare with those of the collection: make a new one")
