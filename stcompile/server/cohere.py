"""`/v1/rerank` and `/v2/rerank`, as the clients of Cohere and Jina send them."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field

from stcompile.server.endpoint import KINDS, Asked, Endpoint, Known, Name, Server, Told, written
from stcompile.server.errors import RequestError, invalid
from stcompile.server.served import RERANK, Served


class Document(Asked):
    """A document with fields, of which the text is ranked."""

    text: str


def _only_documents(value: Any) -> Any:
    """Says what is wrong with them in one sentence, where pydantic says of each form why it is not that one."""
    if value == []:
        raise ValueError("it is an empty list: send at least one document")
    if not isinstance(value, list):
        raise ValueError(f"it is {_kind(value)}: send a list of texts")  # noqa: TRY004 - pydantic hands on this one
    for place, one in enumerate(value):
        if not isinstance(one.get("text") if isinstance(one, dict) else one, str):
            what = "an object without a text" if isinstance(one, dict) else _kind(one)
            raise ValueError(f"item {place} is {what}: send texts, or objects with a text")  # noqa: TRY004 - as above
    return value


def _kind(value: Any) -> str:
    return "a text" if isinstance(value, str) else KINDS[type(value)]


_Documents = Annotated[list[str | Document], Field(min_length=1)]


class RankRequest(Asked):
    """A query, and documents that are to be ranked by it."""

    query: str
    documents: Annotated[_Documents, BeforeValidator(_only_documents, json_schema_input_type=_Documents)]
    model: Name | None = Field(None, description="Which of the server's models; the first reranker where left out.")
    top_n: Annotated[int, Field(ge=1)] | None = Field(None, description="So many of the best alone.")
    return_documents: bool | None = False
    rank_fields: list[str] | None = Field(None, description="Must be ['text'], where it is given.")
    max_tokens_per_doc: int | None = Field(None, description="Must not be below the model's own limit.")
    max_chunks_per_doc: int | None = Field(None, description="Must be 1, where it is given.")


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
    _check_as_compiled(served, asked)
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


def _check_as_compiled(served: Served, asked: RankRequest) -> None:
    """Documents are cut where the model was compiled to, and nothing but their text is read.

    Raises:
        RequestError: something else is asked for, which would give other scores.
    """
    if asked.rank_fields not in (None, ["text"]):
        raise invalid("rank_fields: the text of a document is ranked alone: put into it what is to be read")
    if asked.max_chunks_per_doc not in (None, 1):
        raise invalid("max_chunks_per_doc: a document that is too long is cut, not taken in parts: leave it out")
    own, wanted = served.loaded.max_seq_length, asked.max_tokens_per_doc
    if wanted is not None and (own is None or wanted < own):
        raise invalid(f"max_tokens_per_doc: {served.name} is compiled to take {own or 'all'} tokens: leave it out")


def wrong(error: RequestError) -> dict[str, Any]:
    """An error as their clients read it."""
    return {"message": error.sentence, "detail": error.sentence}


ENDPOINTS = tuple(
    Endpoint(path, RankRequest, RankResponse, rank, wrong, "Documents ranked by a query", "Cohere and Jina")
    for path in ("/v1/rerank", "/v2/rerank")
)
