"""LangChain: `StcompileEmbeddings` for vector stores, `StcompileReranker` for a `ContextualCompressionRetriever`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.embeddings import Embeddings
from pydantic import ConfigDict, PrivateAttr, field_serializer

from stcompile.integrations._opened import DENSE, SCORES, named, opened


class StcompileEmbeddings(Embeddings):
    """Queries by `encode_query`, documents by `encode_document`: each has the prompt or route that the model gives it.

        vectors = InMemoryVectorStore(StcompileEmbeddings("minilm-int8"))

    Args:
        artifact: an encoder's folder, or what `stcompile.load` gave.
        load_options: as of `stcompile.load`, where it is a folder.

    Raises:
        InputError: it is no encoder of dense vectors.
        ArtifactError, ProviderError, MissingExtraError: as `stcompile.load`.
    """

    def __init__(self, artifact: Any, **load_options: Any) -> None:
        self.encoder = opened(artifact, DENSE, **load_options)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector of each text, as lists of numbers."""
        found: list[list[float]] = self.encoder.encode_document(texts, show_progress_bar=False).tolist()
        return found

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query, as a list of numbers."""
        found: list[float] = self.encoder.encode_query(text, show_progress_bar=False).tolist()
        return found


class StcompileReranker(BaseDocumentCompressor):
    """Keeps the documents that a reranker scores highest for a query, with `relevance_score` in their metadata.

        ContextualCompressionRetriever(base_compressor=StcompileReranker(artifact="ms-marco-int8"), base_retriever=...)

    Attributes:
        artifact: a reranker's folder, or what `stcompile.load` gave.
        top_n: so many documents are kept; None keeps all.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    artifact: Any
    top_n: int | None = 3
    _reranker: Any = PrivateAttr()

    @field_serializer("artifact")
    def _as_saved(self, artifact: Any) -> str:
        return named(artifact)

    def model_post_init(self, context: Any, /) -> None:
        """Opens the artifact. Errors as of `StcompileEmbeddings`."""
        self._reranker = opened(self.artifact, SCORES)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """The best documents, the best first."""
        texts = [document.page_content for document in documents]
        ranked = self._reranker.rank(query, texts, self.top_n, show_progress_bar=False) if texts else []
        return [
            documents[one["corpus_id"]].model_copy(
                update={"metadata": {**documents[one["corpus_id"]].metadata, "relevance_score": one["score"]}}
            )
            for one in ranked
        ]
