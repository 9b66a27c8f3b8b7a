"""LlamaIndex: `StcompileEmbedding` for indexes, `StcompileRerank` as a node postprocessor."""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr, field_serializer
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from stcompile.integrations._opened import DENSE, SCORES, named, opened

# Texts that the index hands over at once: the runtime makes its own batches of them.
_AT_ONCE = 256


class StcompileEmbedding(BaseEmbedding):
    """Queries by `encode_query`, texts by `encode_document`: each has the prompt or route that the model gives it.

        Settings.embed_model = StcompileEmbedding("minilm-int8")

    Args:
        artifact: an encoder's folder, or what `stcompile.load` gave.
        embed_batch_size: texts that are handed over at once.
        options: as of `BaseEmbedding`.

    Attributes:
        artifact: its folder, by which LlamaIndex opens it again.
        fingerprint: which vectors its own compare with: what LlamaIndex has cached of others is not taken for them.

    Raises:
        InputError: it is no encoder of dense vectors.
        ArtifactError, ProviderError, MissingExtraError: as `stcompile.load`.
    """

    artifact: str
    fingerprint: str | None
    _encoder: Any = PrivateAttr()

    def __init__(
        self, artifact: Any, *, embed_batch_size: int = _AT_ONCE, fingerprint: str | None = None, **options: Any
    ) -> None:
        # Of what LlamaIndex saved: another artifact in its place is refused.
        encoder = opened(artifact, DENSE, fingerprint)
        told = {"model_name": encoder.artifact.name, **options}
        super().__init__(
            artifact=named(artifact), fingerprint=encoder.fingerprint, embed_batch_size=embed_batch_size, **told
        )
        self._encoder = encoder

    @classmethod
    def class_name(cls) -> str:
        """Its name in what LlamaIndex stores."""
        return "StcompileEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        found: list[float] = self._encoder.encode_query(query, show_progress_bar=False).tolist()
        return found

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        found: list[list[float]] = self._encoder.encode_document(texts, show_progress_bar=False).tolist()
        return found

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


class StcompileRerank(BaseNodePostprocessor):
    """Keeps the nodes that a reranker scores highest for a query.

        index.as_query_engine(node_postprocessors=[StcompileRerank(artifact="ms-marco-int8", top_n=3)])

    Attributes:
        artifact: a reranker's folder, or what `stcompile.load` gave.
        top_n: so many nodes are kept; None keeps all.
    """

    artifact: Any
    top_n: int | None = 3
    _reranker: Any = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Opens the artifact. Errors as of `StcompileEmbedding`."""
        self._reranker = opened(self.artifact, SCORES)

    @field_serializer("artifact")
    def _as_saved(self, artifact: Any) -> str:
        return named(artifact)

    @classmethod
    def class_name(cls) -> str:
        """Its name in what LlamaIndex stores."""
        return "StcompileRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None or not nodes:
            return nodes
        texts = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        ranked = self._reranker.rank(query_bundle.query_str, texts, self.top_n, show_progress_bar=False)
        return [NodeWithScore(node=nodes[one["corpus_id"]].node, score=one["score"]) for one in ranked]
