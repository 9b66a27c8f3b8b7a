"""One artifact that is served: its collectors, its room, and what of it clients may ask."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact.manifest import ENCODER, HYBRID, MULTI_VECTOR, RERANKER, SPARSE, Manifest
from stcompile.errors import InputError
from stcompile.runtime.async_encoder import AsyncEncoder
from stcompile.runtime.async_kinds import AsyncMultiVectorEncoder, AsyncReranker, AsyncSparseEncoder
from stcompile.runtime.collector import Collector, Usage
from stcompile.runtime.hybrid_embeddings import SPARSE as SPARSE_FORM
from stcompile.runtime.options import DOCUMENT, QUERY, prompt_of
from stcompile.runtime.route import OpenRoute, route_of
from stcompile.runtime.sparse_vectors import SparseVectors
from stcompile.runtime.text.base import Spelled
from stcompile.server.errors import invalid, overloaded, too_large
from stcompile.server.settings import Settings

# What a model may be asked for.
EMBED, EMBED_ALL, EMBED_SPARSE, RERANK = "embed", "embed_all", "embed_sparse", "rerank"

# Characters that are tokenized at once on the loop's own thread: a millisecond.
_AT_ONCE = 8192

ROLES = (QUERY, DOCUMENT)


class Served:
    """A loaded artifact for the callers of one event loop.

    Args:
        name: what clients call it.
        loaded: it.
        settings: the server's.

    Attributes:
        operations: what it can be asked for.
        waiting: texts that wait or run.
    """

    def __init__(self, name: str, loaded: Any, settings: Settings) -> None:
        self.name = name
        self.loaded = loaded
        self.waiting = 0
        self._settings = settings
        self._collectors: dict[str, Any] = {}
        kinds: dict[str, type[Collector]] = {}
        if loaded.kind in (ENCODER, HYBRID):
            kinds[EMBED] = AsyncEncoder
        if loaded.kind == SPARSE or (loaded.kind == HYBRID and SPARSE_FORM in loaded.outputs):
            kinds[EMBED_SPARSE] = AsyncSparseEncoder
        if loaded.kind == MULTI_VECTOR:
            kinds[EMBED_ALL] = AsyncMultiVectorEncoder
        if loaded.kind == RERANKER and loaded.num_labels == 1:
            kinds[RERANK] = AsyncReranker
        for operation, kind in kinds.items():
            self._collectors[operation] = kind(loaded, max_tokens=settings.max_batch_tokens)

    @property
    def operations(self) -> tuple[str, ...]:
        return tuple(self._collectors)

    @property
    def manifest(self) -> Manifest:
        """The artifact's."""
        return self.loaded.artifact.manifest  # type: ignore[no-any-return] # loaded is of any kind

    async def embed(
        self,
        texts: Sequence[str],
        *,
        role: str | None = None,
        prompt_name: str | None = None,
        task: str | None = None,
        normalizes: bool = False,
        dim: int | None = None,
        truncates: bool | None = None,
        usage: Usage | None = None,
    ) -> NDArray[np.float32]:
        """Dense vectors, float32 `(n, dim)`.

        Args:
            texts: what to encode.
            role: `query` or `document`, as of `encode_query` and `encode_document`; None is plain `encode`.
            prompt_name, task: as of `Encoder.encode`.
            normalizes: whether vectors are scaled to length 1.
            dim: so many dimensions alone.
            truncates: whether texts that are too long are cut; None as the server does.
            usage: what was run is added to it.

        Raises:
            InputError: as of `Encoder.encode`, or there are not so many dimensions.
            RequestError: there is no room for so many texts, or one is too long and is not to be cut.
        """
        width = self.manifest.dim
        if dim is not None and not 1 <= dim <= width:
            raise InputError(f"dimensions must be from 1 to {width}, which {self.name} has, got {dim}")
        collector: AsyncEncoder = self._collectors[EMBED]
        encode = {QUERY: collector.encode_query, DOCUMENT: collector.encode_document}.get(role or "", collector.encode)
        prompt = self._prompt(prompt_name, role)
        with self._room(texts):
            await self._check_lengths(texts, truncates, prompt, role if task is None else task)
            return await encode(
                list(texts),
                prompt_name=prompt_name,
                task=task,
                normalize_embeddings=normalizes,
                truncate_dim=dim,
                usage=usage,
            )

    async def embed_sparse(
        self,
        texts: Sequence[str],
        *,
        role: str | None,
        prompt_name: str | None,
        truncates: bool | None,
        usage: Usage,
    ) -> SparseVectors:
        """Sparse vectors. Arguments and errors as of `embed`."""
        collector: AsyncSparseEncoder = self._collectors[EMBED_SPARSE]
        prompt = self._prompt(prompt_name, role)
        with self._room(texts):
            await self._check_lengths(texts, truncates, prompt, role)
            found: SparseVectors = await collector.encode(list(texts), prompt=prompt, usage=usage)
        return found

    async def embed_all(
        self,
        texts: Sequence[str],
        *,
        role: str | None,
        prompt_name: str | None,
        truncates: bool | None,
        usage: Usage,
    ) -> list[NDArray[np.float32]]:
        """A vector of each token of a multi-vector encoder, float32 `(tokens, dim)` each. As `embed`."""
        collector: AsyncMultiVectorEncoder = self._collectors[EMBED_ALL]
        prompt = self._prompt(prompt_name, role)
        encode = {QUERY: collector.encode_query, DOCUMENT: collector.encode_document}.get(role or "", collector.encode)
        with self._room(texts):
            await self._check_lengths(texts, truncates, prompt, role)
            return list(await encode(list(texts), prompt=prompt, usage=usage))

    async def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        raw: bool,
        truncates: bool | None = None,
        usage: Usage | None = None,
    ) -> NDArray[np.float32]:
        """Scores of documents for a query, float32 `(n,)`: logits, or through a sigmoid. As `embed`."""
        collector: AsyncReranker = self._collectors[RERANK]
        pairs = [(query, document) for document in documents]
        with self._room(pairs):
            await self._check_lengths(pairs, truncates, self._prompt(None, None), None)
            scores: NDArray[np.float32] = await collector.predict(
                pairs, activation_fn="identity" if raw else "sigmoid", usage=usage
            )
        return scores

    async def _check_lengths(self, texts: Sequence[Any], truncates: bool | None, prompt: str, task: str | None) -> None:
        """Whether none of these texts, or pairs, is cut, where none is to be.

        Raises:
            InputError: the task is unknown.
            RequestError: one is longer than the model takes.
        """
        if self._settings.truncates if truncates is None else truncates:
            return
        route = self._route(task)
        if sum(len(one) if isinstance(one, str) else len(one[0]) + len(one[1]) for one in texts) <= _AT_ONCE:
            are_cut = route.are_cut(texts, prompt)
        else:
            are_cut = await asyncio.to_thread(route.are_cut, texts, prompt)
        if any(are_cut):
            raise too_large(
                f"text {are_cut.index(True)} has more than the {route.max_seq_length} tokens that {self.name} takes: "
                "shorten it, or let it be cut with truncate=true"
            )

    def spelled(self, texts: Sequence[str], *, prompt_name: str | None, special: bool) -> list[Spelled]:
        """The tokens of texts; without `special` those that the tokenizer adds are left out."""
        found = self._route(None).spelled(texts, self._prompt(prompt_name, None))
        if special:
            return found
        kept = [[place for place, mark in enumerate(one.is_special) if not mark] for one in found]
        return [
            Spelled(
                [one.ids[place] for place in places],
                [one.tokens[place] for place in places],
                [False] * len(places),
                [one.spans[place] for place in places],
            )
            for one, places in zip(found, kept, strict=True)
        ]

    def check_truncation_side(self, side: str | None) -> None:
        """Texts are cut where the model was compiled to.

        Raises:
            RequestError: they are to be cut on the other side.
        """
        own = self.manifest.text.truncation_side
        if side is not None and side.lower() != own:
            raise invalid(f"truncation_direction: {self.name} is compiled to be cut on the {own}: leave it out")

    async def aclose(self) -> None:
        """Answers everybody who waits, and takes nobody new."""
        for collector in self._collectors.values():
            await collector.aclose()

    def _prompt(self, name: str | None, role: str | None) -> str:
        return prompt_of(None, name, self.manifest, role)

    def _route(self, task: str | None) -> OpenRoute:
        routes = self.loaded._routes
        if self.loaded.kind == RERANKER:
            (route,) = routes.values()
        else:
            route = routes[route_of(self.manifest.routing, task)]
        return route  # type: ignore[no-any-return] # as above

    def _check_room(self, texts: int) -> None:
        settings = self._settings
        if texts > settings.max_texts:
            raise too_large(
                f"a request may have {settings.max_texts} texts, and this one has {texts}: send fewer at once"
            )
        if self.waiting and self.waiting + texts > settings.max_queue:
            raise overloaded(self.waiting, settings.max_queue)

    @contextmanager
    def _room(self, texts: Sequence[Any]) -> Iterator[None]:
        """Room for texts, or pairs.

        Raises:
            RequestError: there is none for so many.
        """
        self._check_room(len(texts))
        self.waiting += len(texts)
        try:
            yield
        finally:
            self.waiting -= len(texts)
