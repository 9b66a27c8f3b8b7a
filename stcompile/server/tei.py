"""`/embed` and its kin, `/similarity`, `/rerank` and `/tokenize`, as text-embeddings-inference has them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, RootModel

from stcompile.runtime.sparse_vectors import SparseVector
from stcompile.server.endpoint import Asked, Endpoint, Known, Name, Server, Texts, Told, as_list, written
from stcompile.server.errors import RequestError
from stcompile.server.served import EMBED, EMBED_ALL, EMBED_SPARSE, RERANK, Served

_MODEL = "Which of the server's models; the first that is able to where none is named."
_TRUNCATE = "Whether a text that is too long is cut; where not, it is refused. The server's setting where left out."
_SIDE = "Must be the model's own, where it is given."

Side = Literal["Left", "Right", "left", "right"]


class _OfTexts(Asked):
    inputs: Texts = Field(description="A text, or a list of texts; token ids are refused.")
    model: Name | None = Field(None, description=_MODEL)
    prompt_name: Name | None = Field(None, description="Which of the model's prompts to put in front of each text.")
    input_type: Literal["query", "document"] | None = Field(None, description="As of /v1/embeddings.")
    truncate: bool | None = Field(None, description=_TRUNCATE)
    truncation_direction: Side | None = Field(None, description=_SIDE)


class EmbedRequest(_OfTexts):
    """Texts to be embedded."""

    normalize: bool | None = Field(True, description="Whether vectors are scaled to length 1.")
    dimensions: Annotated[int, Field(ge=1)] | None = Field(None, description="So many of the first alone.")
    task: Name | None = Field(None, description="Which route of a model with several.")


class EmbedAllRequest(_OfTexts):
    """Texts whose tokens each get a vector, by a multi-vector encoder."""


class EmbedSparseRequest(_OfTexts):
    """Texts to be made sparse vectors of."""


class Sentences(Asked):
    """One text, and those that it is compared with."""

    source_sentence: str
    sentences: Annotated[list[str], Field(min_length=1)]


class SimilarityParameters(Asked):
    """How the sentences are encoded."""

    prompt_name: Name | None = Field(None, description="Which of the model's prompts to put in front of each text.")
    truncate: bool | None = Field(None, description=_TRUNCATE)
    truncation_direction: Side | None = Field(None, description=_SIDE)


class SimilarityRequest(Asked):
    """How alike one text is to others, by the model's own measure."""

    inputs: Sentences
    parameters: SimilarityParameters | None = None
    model: Name | None = Field(None, description=_MODEL)
    truncate: bool | None = Field(None, description="The same as in parameters, which goes before it.")


class RerankRequest(Asked):
    """A query, and texts that are to be ranked by it."""

    query: str
    texts: Annotated[list[str], Field(min_length=1)]
    model: Name | None = Field(None, description=_MODEL)
    raw_scores: bool | None = Field(False, description="Logits; otherwise these through a sigmoid, from 0 to 1.")
    return_text: bool | None = False
    truncate: bool | None = Field(None, description=_TRUNCATE)
    truncation_direction: Side | None = Field(None, description=_SIDE)


class TokenizeRequest(Asked):
    """Texts whose tokens are wanted."""

    inputs: Texts
    model: Name | None = Field(None, description=_MODEL)
    add_special_tokens: bool | None = True
    prompt_name: Name | None = None


class Vectors(RootModel[list[list[float]]]):
    """A vector of each text."""


class VectorsOfTokens(RootModel[list[list[list[float]]]]):
    """A vector of each token of each text."""


class Weight(Told):
    """One number of a sparse vector that is not zero."""

    index: int
    value: float


class SparseRows(RootModel[list[list[Weight]]]):
    """A sparse vector of each text."""


class Similarities(RootModel[list[float]]):
    """A number for each of the sentences."""


class Rank(Told):
    """A text by its place among those that were sent."""

    index: int
    score: float
    text: str | None = None


class Ranks(RootModel[list[Rank]]):
    """The best first."""


class Token(Told):
    """A token, and where in the text it stands, in characters; special ones that were added stand nowhere."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class Tokens(RootModel[list[list[Token]]]):
    """The tokens of each text."""


def _asked_at_root(value: Any) -> Any:
    # Which of the three it is shows in its keys: errors then speak of one of them alone.
    if isinstance(value, dict):
        if "texts" in value or "query" in value:
            return RerankRequest.model_validate(value)
        if isinstance(value.get("inputs"), dict):
            return SimilarityRequest.model_validate(value)
        return EmbedRequest.model_validate(value)
    return value


class RootRequest(RootModel[Any]):
    """What `/embed`, `/similarity` or `/rerank` take: told apart by their fields."""

    root: Annotated[
        EmbedRequest | SimilarityRequest | RerankRequest,
        BeforeValidator(_asked_at_root, json_schema_input_type=EmbedRequest | SimilarityRequest | RerankRequest),
    ]


class RootResponse(RootModel[list[list[float]] | list[float] | list[Rank]]):
    """What those answer."""


async def embed(server: Server, asked: EmbedRequest, known: Known) -> bytes:
    """Answers `/embed`."""
    served, texts, options = _begun(server, asked, EMBED, known, {"task": asked.task})
    vectors = await served.embed(texts, normalizes=asked.normalize is not False, dim=asked.dimensions, **options)
    return written(np.ascontiguousarray(vectors))


async def embed_all(server: Server, asked: EmbedAllRequest, known: Known) -> bytes:
    """Answers `/embed_all`."""
    served, texts, options = _begun(server, asked, EMBED_ALL, known, {})
    return written([list(rows) for rows in await served.embed_all(texts, **options)])


async def embed_sparse(server: Server, asked: EmbedSparseRequest, known: Known) -> bytes:
    """Answers `/embed_sparse`."""
    served, texts, options = _begun(server, asked, EMBED_SPARSE, known, {})
    return written([_weights(row) for row in await served.embed_sparse(texts, **options)])


def _begun(
    server: Server, asked: _OfTexts, operation: str, known: Known, more: dict[str, Any]
) -> tuple[Served, list[str], dict[str, Any]]:
    """What answers, the texts, and how they are to be encoded."""
    served = server.find(asked.model, operation, or_any=True)
    served.check_truncation_side(asked.truncation_direction)
    texts = as_list(asked.inputs)
    known.model, known.texts = served.name, len(texts)
    options = {"role": asked.input_type, "prompt_name": asked.prompt_name, "truncates": asked.truncate, **more}
    return served, texts, {**options, "usage": known.usage}


async def similarity(server: Server, asked: SimilarityRequest, known: Known) -> bytes:
    """Answers `/similarity`."""
    served = server.find(asked.model, EMBED, or_any=True)
    how = asked.parameters or SimilarityParameters.model_construct()
    served.check_truncation_side(how.truncation_direction)
    texts = [asked.inputs.source_sentence, *asked.inputs.sentences]
    known.model, known.texts = served.name, len(texts)
    truncates = asked.truncate if how.truncate is None else how.truncate
    vectors = await served.embed(texts, prompt_name=how.prompt_name, truncates=truncates, usage=known.usage)
    found = served.loaded.similarity(vectors[:1], vectors[1:])[0]
    return written(np.ascontiguousarray(found))


async def rerank(server: Server, asked: RerankRequest, known: Known) -> bytes:
    """Answers `/rerank`."""
    served = server.find(asked.model, RERANK, or_any=True)
    served.check_truncation_side(asked.truncation_direction)
    known.model, known.texts = served.name, len(asked.texts)
    scores = await served.rerank(
        asked.query, asked.texts, raw=bool(asked.raw_scores), truncates=asked.truncate, usage=known.usage
    )
    return written(
        [
            {"index": place, "score": scores[place], **({"text": asked.texts[place]} if asked.return_text else {})}
            for place in np.argsort(-scores, kind="stable").tolist()
        ]
    )


async def tokenize(server: Server, asked: TokenizeRequest, known: Known) -> bytes:
    """Answers `/tokenize`."""
    served = server.any_of(asked.model)
    texts = as_list(asked.inputs)
    known.model, known.texts = served.name, len(texts)
    found = served.spelled(texts, prompt_name=asked.prompt_name, special=asked.add_special_tokens is not False)
    known.usage.tokens = sum(len(one.ids) for one in found)
    return written(
        [
            [
                {
                    "id": number,
                    "text": token,
                    "special": special,
                    "start": None if special else start,
                    "stop": None if special else stop,
                }
                for number, token, special, (start, stop) in zip(
                    one.ids, one.tokens, one.is_special, one.spans, strict=True
                )
            ]
            for one in found
        ]
    )


async def root(server: Server, asked: RootRequest, known: Known) -> bytes:
    """Answers `/`, which Hugging Face's `InferenceClient` asks."""
    answers: dict[type, Any] = {EmbedRequest: embed, SimilarityRequest: similarity, RerankRequest: rerank}
    found: bytes = await answers[type(asked.root)](server, asked.root, known)
    return found


def wrong(error: RequestError) -> dict[str, Any]:
    """An error as text-embeddings-inference tells it."""
    kind = {424: "Backend", 429: "Overloaded", 500: "Backend", 503: "Unhealthy"}.get(error.status, "Validation")
    return {"error": error.sentence, "error_type": kind}


def _weights(row: SparseVector) -> list[dict[str, Any]]:
    return [
        {"index": index, "value": value} for index, value in zip(row.indices.tolist(), row.values.tolist(), strict=True)
    ]


_TEI = "text-embeddings-inference"
ENDPOINTS = (
    Endpoint("/", RootRequest, RootResponse, root, wrong, "What /embed, /similarity or /rerank answer", _TEI),
    Endpoint("/embed", EmbedRequest, Vectors, embed, wrong, "Vectors of texts", _TEI),
    Endpoint("/embed_all", EmbedAllRequest, VectorsOfTokens, embed_all, wrong, "Vectors of tokens", _TEI),
    Endpoint("/embed_sparse", EmbedSparseRequest, SparseRows, embed_sparse, wrong, "Sparse vectors of texts", _TEI),
    Endpoint("/similarity", SimilarityRequest, Similarities, similarity, wrong, "How alike texts are", _TEI),
    Endpoint("/rerank", RerankRequest, Ranks, rerank, wrong, "Texts ranked by a query", _TEI),
    Endpoint("/tokenize", TokenizeRequest, Tokens, tokenize, wrong, "The tokens of texts", _TEI),
)
