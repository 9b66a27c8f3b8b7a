"""`AsyncReranker`, `AsyncSparseEncoder`, `AsyncMultiVectorEncoder`: as `AsyncEncoder`, of the other kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact.manifest import HYBRID, MULTI_VECTOR, RERANKER, SPARSE
from stcompile.errors import InputError
from stcompile.runtime.activations import Activation, check_activation
from stcompile.runtime.collector import Collector, CollectorOptions, Usage
from stcompile.runtime.hybrid_embeddings import SPARSE as SPARSE_FORM
from stcompile.runtime.hybrid_encoder import HybridEncoder
from stcompile.runtime.inputs import Sentences, listed
from stcompile.runtime.multi_vector_encoder import MultiVectorEncoder, MultiVectorOptions
from stcompile.runtime.options import DOCUMENT, QUERY, prompt_text
from stcompile.runtime.pairs import Pairs, listed_pairs, read_pairs
from stcompile.runtime.reranker import Reranker
from stcompile.runtime.sparse_encoder import SparseEncoder, SparseOptions
from stcompile.runtime.sparse_vectors import SparseVector, SparseVectors


@dataclass(frozen=True)
class _ScoreOptions:
    prompt: str
    activation_fn: Activation | None


class AsyncReranker(Collector):
    """Scores pairs for callers of one event loop; their pairs are collected and run together.

    Arguments, errors and what callers may rely on are of `Collector`.

    Attributes:
        reranker: what scores; it stays open.
    """

    kinds = (RERANKER,)
    takes = "a Reranker"

    def __init__(self, reranker: Reranker, **options: Unpack[CollectorOptions]) -> None:
        super().__init__(reranker, **options)
        self.reranker = reranker

    async def predict(
        self,
        inputs: Pairs,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        activation_fn: Activation | None = None,
        usage: Usage | None = None,
    ) -> Any:
        """What `Reranker.predict` gives for the same pairs: float32 `(n,)`, of several labels `(n, num_labels)`.

        Args:
            inputs: one pair, or a list of pairs, as there.
            prompt_name, prompt, activation_fn: as there.
            usage: as of `AsyncEncoder.encode`.

        Raises:
            InputError: as there; no other caller notices.
            StcompileError: it is closed, or belongs to another event loop.
        """
        manifest = self.reranker.artifact.manifest
        check_activation(activation_fn)
        text = prompt_text(prompt, prompt_name, manifest, manifest.default_prompt_name)
        items, single = listed_pairs(inputs)
        scores = await self._ask(read_pairs(items), _ScoreOptions(text, activation_fn), usage)
        return scores[0] if single else scores

    def _computed(self, texts: list[Any], options: _ScoreOptions) -> Any:
        return self._worker.predict(
            texts, prompt=options.prompt, activation_fn=options.activation_fn, show_progress_bar=False
        )


class AsyncSparseEncoder(Collector):
    """Makes sparse vectors for callers of one event loop; their texts are collected and run together.

    Arguments, errors and what callers may rely on are of `Collector`.

    Attributes:
        encoder: what encodes, a `SparseEncoder` or a `HybridEncoder`; it stays open.
    """

    kinds = (SPARSE, HYBRID)
    takes = "a SparseEncoder, or of a HybridEncoder"

    def __init__(self, encoder: SparseEncoder | HybridEncoder, **options: Unpack[CollectorOptions]) -> None:
        super().__init__(encoder, **options)
        if encoder.kind == HYBRID and SPARSE_FORM not in encoder.outputs:  # type: ignore[union-attr] # of that kind
            raise InputError("this artifact makes no sparse vectors: export it with --outputs dense,sparse")
        self.encoder = encoder

    async def encode(
        self,
        sentences: Sentences,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        task: str | None = None,
        max_active_dims: int | None = None,
        usage: Usage | None = None,
    ) -> Any:
        """What `SparseEncoder.encode` gives for the same texts: `SparseVectors`, of a single text a `SparseVector`.

        Of a hybrid encoder what `encode_hybrid` gives as `sparse`, which knows no `max_active_dims`. `usage` as of
        `AsyncEncoder.encode`.

        Raises:
            InputError: as there; no other caller notices.
            StcompileError: it is closed, or belongs to another event loop.
        """
        return await self._encoded(sentences, None, prompt_name, prompt, task, max_active_dims, usage)

    async def encode_query(self, sentences: Sentences, *, prompt: str | None = None, usage: Usage | None = None) -> Any:
        """As `encode`, with the meaning of `SparseEncoder.encode_query`."""
        return await self._encoded(sentences, QUERY, None, prompt, None, None, usage)

    async def encode_document(
        self, sentences: Sentences, *, prompt: str | None = None, usage: Usage | None = None
    ) -> Any:
        """As `encode`, with the meaning of `SparseEncoder.encode_document`."""
        return await self._encoded(sentences, DOCUMENT, None, prompt, None, None, usage)

    async def _encoded(
        self,
        sentences: Sentences,
        role: str | None,
        prompt_name: str | None,
        prompt: str | None,
        task: str | None,
        max_active_dims: int | None,
        usage: Usage | None,
    ) -> Any:
        texts, single = listed(sentences)
        manifest = self.encoder.artifact.manifest
        options = SparseOptions(
            prompt_name, prompt, show_progress_bar=False, max_active_dims=max_active_dims, task=task
        )
        if manifest.kind == HYBRID and max_active_dims is not None:
            raise InputError("a hybrid encoder's sparse vectors have all their numbers: leave max_active_dims out")
        settled = options.settled(manifest, self.encoder.device, role)
        rows: list[SparseVector] = await self._ask(texts, settled, usage)
        if single:
            return rows[0]
        return SparseVectors.of(rows, rows[0].dim if rows else manifest.dim)

    def _computed(self, texts: list[Any], options: SparseOptions) -> Any:
        if self.encoder.kind == HYBRID:
            found = self._worker.encode_hybrid(texts, prompt=options.prompt, outputs=(SPARSE_FORM,), task=options.task)
            return list(found.sparse)
        return list(self._worker.encode(texts, **vars(options)))


class AsyncMultiVectorEncoder(Collector):
    """Makes a vector of each token for callers of one event loop; their texts are collected and run together.

    Arguments, errors and what callers may rely on are of `Collector`.

    Attributes:
        encoder: what encodes; it stays open.
    """

    kinds = (MULTI_VECTOR,)
    takes = "a MultiVectorEncoder"

    def __init__(self, encoder: MultiVectorEncoder, **options: Unpack[CollectorOptions]) -> None:
        super().__init__(encoder, **options)
        self.encoder = encoder

    async def encode(
        self,
        sentences: Sentences,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        task: str | None = None,
        normalize_embeddings: bool = False,
        usage: Usage | None = None,
    ) -> Any:
        """What `MultiVectorEncoder.encode` gives for the same texts: a list of float32 `(tokens, dim)`.

        `usage` as of `AsyncEncoder.encode`.

        Raises:
            InputError: as there; no other caller notices.
            StcompileError: it is closed, or belongs to another event loop.
        """
        options = MultiVectorOptions(
            prompt_name, prompt, task=task, normalize_embeddings=normalize_embeddings, show_progress_bar=False
        )
        return await self._encoded(sentences, None, options, usage)

    async def encode_query(self, sentences: Sentences, *, prompt: str | None = None, usage: Usage | None = None) -> Any:
        """As `encode`, with the meaning of `MultiVectorEncoder.encode_query`."""
        options = MultiVectorOptions(prompt=prompt, show_progress_bar=False)
        return await self._encoded(sentences, QUERY, options, usage)

    async def encode_document(
        self, sentences: Sentences, *, prompt: str | None = None, usage: Usage | None = None
    ) -> Any:
        """As `encode`, with the meaning of `MultiVectorEncoder.encode_document`."""
        options = MultiVectorOptions(prompt=prompt, show_progress_bar=False)
        return await self._encoded(sentences, DOCUMENT, options, usage)

    async def _encoded(
        self, sentences: Sentences, role: str | None, options: MultiVectorOptions, usage: Usage | None
    ) -> Any:
        texts, single = listed(sentences)
        settled = options.settled(self.encoder.artifact.manifest, self.encoder.device, role)
        rows: Sequence[NDArray[np.float32]] = await self._ask(texts, settled, usage)
        return rows[0] if single else rows

    def _computed(self, texts: list[Any], options: MultiVectorOptions) -> Any:
        return list(self._worker.encode(texts, **vars(options)))
