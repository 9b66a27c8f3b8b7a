"""Haystack: components that embed texts and documents, and that rank documents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict

from stcompile.errors import InputError
from stcompile.integrations._opened import DENSE, SCORES, named, opened
from stcompile.runtime.loaded import Loaded


class _Component:
    """Opened when a pipeline warms up, or when it first runs."""

    _kinds: tuple[str, ...]

    def __init__(self, artifact: Any) -> None:
        self.artifact = named(artifact)
        self._loaded = opened(artifact, self._kinds) if isinstance(artifact, Loaded) else None

    def warm_up(self) -> None:
        """Opens the artifact. Errors as of `stcompile.load`; InputError where it is of another kind."""
        if self._loaded is None:
            self._loaded = opened(self.artifact, self._kinds)

    @property
    def _ready(self) -> Any:
        self.warm_up()
        return self._loaded


@component
class StcompileTextEmbedder(_Component):
    """The vector of a query, by `encode_query`.

    Args:
        artifact: an encoder's folder, or what `stcompile.load` gave.
    """

    _kinds = DENSE

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """`embedding` of the text. InputError where it is none."""
        if not isinstance(text, str):
            raise InputError(f"this takes one text, got {type(text).__name__}: StcompileDocumentEmbedder takes several")
        return {"embedding": self._ready.encode_query(text, show_progress_bar=False).tolist()}

    def to_dict(self) -> dict[str, Any]:
        """As a pipeline is saved."""
        return default_to_dict(self, artifact=self.artifact)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        """As a pipeline is read."""
        return default_from_dict(cls, data)


@component
class StcompileDocumentEmbedder(_Component):
    """Documents with their vectors, by `encode_document`.

    Args:
        artifact: an encoder's folder, or what `stcompile.load` gave.
        meta_fields_to_embed: what of a document's metadata stands in front of its text.
        embedding_separator: between these.
    """

    _kinds = DENSE

    def __init__(
        self, artifact: Any, meta_fields_to_embed: list[str] | None = None, embedding_separator: str = "\n"
    ) -> None:
        _Component.__init__(self, artifact)  # the decorator makes another class, of which super() knows nothing
        self.meta_fields_to_embed = list(meta_fields_to_embed or [])
        self.embedding_separator = embedding_separator

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """`documents`, each with an `embedding`."""
        if not documents:
            return {"documents": []}
        vectors = self._ready.encode_document([self._text(one) for one in documents], show_progress_bar=False)
        made = [replace(one, embedding=vector.tolist()) for one, vector in zip(documents, vectors, strict=True)]
        return {"documents": made}

    def _text(self, document: Document) -> str:
        fields = [document.meta.get(name) for name in self.meta_fields_to_embed]
        parts = [*(str(value) for value in fields if value is not None), document.content or ""]
        return self.embedding_separator.join(parts)

    def to_dict(self) -> dict[str, Any]:
        """As a pipeline is saved."""
        return default_to_dict(
            self,
            artifact=self.artifact,
            meta_fields_to_embed=self.meta_fields_to_embed,
            embedding_separator=self.embedding_separator,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        """As a pipeline is read."""
        return default_from_dict(cls, data)


@component
class StcompileRanker(_Component):
    """The documents that a reranker scores highest for a query.

    Args:
        artifact: a reranker's folder, or what `stcompile.load` gave.
        top_k: so many are kept; None keeps all.
    """

    _kinds = SCORES

    def __init__(self, artifact: Any, top_k: int | None = 10) -> None:
        _Component.__init__(self, artifact)  # the decorator makes another class, of which super() knows nothing
        self.top_k = top_k

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """`documents`, the best first, each with its `score`."""
        if not documents:
            return {"documents": []}
        texts = [one.content or "" for one in documents]
        ranked = self._ready.rank(query, texts, self.top_k if top_k is None else top_k, show_progress_bar=False)
        return {"documents": [replace(documents[one["corpus_id"]], score=one["score"]) for one in ranked]}

    def to_dict(self) -> dict[str, Any]:
        """As a pipeline is saved."""
        return default_to_dict(self, artifact=self.artifact, top_k=self.top_k)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        """As a pipeline is read."""
        return default_from_dict(cls, data)
