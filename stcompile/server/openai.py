"""`/v1/embeddings` and `/v1/models`, as OpenAI has them and the clients of its package ask for them."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stcompile.server.endpoint import Asked, Endpoint, Known, Name, Server, Texts, Told, as_list, written
from stcompile.server.errors import RequestError
from stcompile.server.served import EMBED


class EmbeddingsRequest(Asked):
    """Texts to be embedded. Beside OpenAI's own fields it has a prompt, a role and a task of the model."""

    input: Texts = Field(description="A text, or a list of texts; token ids are refused.")
    model: Name | None = Field(None, description="Which of the server's models; the first one where none is named.")
    dimensions: Annotated[int, Field(ge=1)] | None = Field(None, description="So many alone, scaled to length 1.")
    encoding_format: Literal["float", "base64"] | None = "float"
    input_type: Literal["query", "document"] | None = Field(
        None,
        description="What texts are: takes the prompt and route of encode_query or encode_document.",
    )
    prompt_name: Name | None = Field(None, description="Which of the model's prompts to put in front of each text.")
    task: Name | None = Field(None, description="Which route of a model with several.")


class Embedding(Told):
    """One vector: numbers, or their bytes (float32, little endian) in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(Told):
    """Tokens that were computed, those of prompts among them."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(Told):
    """Vectors in the order of the texts."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


async def embeddings(server: Server, asked: EmbeddingsRequest, known: Known) -> bytes:
    """Answers `/v1/embeddings`."""
    served = server.find(asked.model, EMBED)
    texts = as_list(asked.input)
    known.model, known.texts = served.name, len(texts)
    vectors = await served.embed(
        texts,
        role=asked.input_type,
        prompt_name=asked.prompt_name,
        task=asked.task,
        normalizes=asked.dimensions is not None,
        dim=asked.dimensions,
        usage=known.usage,
    )
    shown = _in_base64 if asked.encoding_format == "base64" else _as_it_is
    return written(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": place, "embedding": shown(vector)}
                for place, vector in enumerate(vectors)
            ],
            "model": served.name,
            "usage": {"prompt_tokens": known.usage.tokens, "total_tokens": known.usage.tokens},
        }
    )


def models(server: Server) -> bytes:
    """Answers `/v1/models`."""
    listed = [
        {"id": name, "object": "model", "created": server.facts["started"], "owned_by": "stcompile"}
        for name in server.models
    ]
    return written({"object": "list", "data": listed})


def wrong(error: RequestError) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    kind = {429: "rate_limit_exceeded", 401: "authentication_error"}.get(
        error.status, "invalid_request_error" if error.status < 500 else "server_error"
    )
    return {"error": {"message": error.sentence, "type": kind, "param": None, "code": error.kind}}


def _as_it_is(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    return vector


def _in_base64(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode("ascii")


ENDPOINTS = (
    Endpoint("/v1/embeddings", EmbeddingsRequest, EmbeddingsResponse, embeddings, wrong, "Vectors of texts", "OpenAI"),
)
