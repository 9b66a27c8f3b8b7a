"""`/v1/rerank` and `/v2/rerank`, as the clients of Cohere and Jina send them."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from stcompile.server.endpoint import Asked, Endpoint, Known, Name, Server, Told, written
from stcompile.server.errors import RequestError
from stcompile.server.served import RERANK


class Document(Asked):
    """A document with fields, of which the text is ranked."""

    text: str


class RankRequest(Asked):
    """A query, and documents that are to be ranked by it."""

    query: str
    documents: Annotated[list[str | Document], Field(min_length=1)]
    model: Name | None = Field(None, description="Which of the server's models; the first reranker where left out.")
    top_n: Annotated[int, Field(ge=1)] | None = Field(None, description="So many of the best alone.")
    return_documents: bool = False


class Result(Told):
    """A document by its place among those that were sent."""

    index: int
    relevance_score: float = Field(description="From 0 to 1.")
    document: Document | None = None


class TokenUsage(Told):
    """That were computed."""

    total_tokens: int


class RankResponse(Told):
    """The best first."""

    id: str
    model: str
    results: list[Result]
    usage: TokenUsage
    meta: dict[str, Any]


async def rank(server: Server, asked: RankRequest, known: Known) -> bytes:
    """Answers `/v1/rerank` and `/v2/rerank`."""
    served = server.find(asked.model, RERANK)
    texts = [one if isinstance(one, str) else one.text for one in asked.documents]
    known.model, known.texts = served.name, len(texts)
    scores = await served.rerank(asked.query, texts, raw=False, usage=known.usage)
    order = np.argsort(-scores, kind="stable").tolist()[: asked.top_n]
    return written(
        {
            "id": str(uuid.uuid4()),
            "model": served.name,
            "results": [
                {
                    "index": place,
                    "relevance_score": scores[place],
                    **({"document": {"text": texts[place]}} if asked.return_documents else {}),
                }
                for place in order
            ],
            "usage": {"total_tokens": known.usage.tokens},
            "meta": {"api_version": {"version": "1"}, "billed_units": {"search_units": 1}},
        }
    )


def wrong(error: RequestError) -> dict[str, Any]:
    """An error as their clients read it."""
    return {"message": error.sentence, "detail": error.sentence}


ENDPOINTS = tuple(
    Endpoint(path, RankRequest, RankResponse, rank, wrong, "Documents ranked by a query", "Cohere and Jina")
    for path in ("/v1/rerank", "/v2/rerank")
)
