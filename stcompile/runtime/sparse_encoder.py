"""`SparseEncoder`: text to vectors of which most numbers are zeros, as `SparseEncoder` of sentence-transformers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact.manifest import SPARSE, Manifest
from stcompile.errors import InputError
from stcompile.runtime.device import Device
from stcompile.runtime.embedding import OneByOne
from stcompile.runtime.inputs import Sentences, at_least_one
from stcompile.runtime.options import DOCUMENT, QUERY, check_call, imported_torch, prompt_of
from stcompile.runtime.route import OpenRoute
from stcompile.runtime.signatures import called_with
from stcompile.runtime.sparse_similarity import similarity
from stcompile.runtime.sparse_vectors import Sparse, SparseVector, SparseVectors, as_sparse, rows_of
from stcompile.runtime.text.base import Feeds
from stcompile.runtime.vocabulary import Vocabulary


@dataclass(frozen=True)
class SparseOptions:
    """One call's options, as `SparseEncoder.encode` takes them beside its texts."""

    prompt_name: str | None = None
    prompt: str | None = None
    batch_size: int | None = None
    show_progress_bar: bool | None = None
    convert_to_tensor: bool = False
    convert_to_sparse_tensor: bool = True
    save_to_cpu: bool = False
    device: object = None
    max_active_dims: int | None = None
    pool: None = None
    chunk_size: None = None
    task: str | None = field(default=None, kw_only=True)

    def settled(self, manifest: Manifest, here: Device, role: str | None) -> SparseOptions:
        """The same with every default filled in that does not depend on the route.

        Raises:
            InputError, ProviderError, MissingExtraError: as of `SparseEncoder.encode`.
        """
        check_call(self.pool, self.chunk_size, self.device, here, tensor=self.convert_to_tensor)
        keep = self.max_active_dims
        return replace(
            self,
            prompt_name=None,
            prompt=prompt_of(self.prompt, self.prompt_name, manifest, role),
            batch_size=None if self.batch_size is None else at_least_one("batch_size", self.batch_size),
            max_active_dims=None if keep is None else at_least_one("max_active_dims", keep),
            task=role if self.task is None else self.task,
        )


_encode_method: Callable[[Any], Any] = functools.partial(called_with, SparseOptions)


class SparseEncoder(OneByOne):
    """Turns text into sparse vectors. One encoder may be used from several threads at once.

    Made by `stcompile.load`, or `SparseEncoder.load`, which opens nothing else. It may be pickled: by its folder and
    options, and opened again where it is unpickled. A forked child opens the folder again when it first encodes. As a
    context it is closed at the end.

    Attributes:
        artifact: what it was made from.
        device: where it computes.
        threads: threads that it computes on.
    """

    kind = SPARSE

    @property
    def max_active_dims(self) -> int | None:
        """How many of a vector's largest numbers are kept where nothing is asked for; None keeps all.

        Of several routes, that of the first which has one.
        """
        known = (graph.max_active_dims for graph in self._manifest.graphs)
        return next((count for count in known if count is not None), None)

    @_encode_method
    def encode(self, inputs: Sentences, options: SparseOptions) -> Any:
        """Encodes text, as `SparseEncoder.encode` of sentence-transformers does.

        Args:
            inputs: one text, or any number of texts in an order, as of `Encoder.encode`. May be passed as `sentences`.
            prompt_name: which of `prompts` to put in front of each text.
            prompt: the text to put in front of each text; wins over `prompt_name`.
            batch_size: texts per run of the graph; None makes batches of the artifact's token budget, which is faster.
            show_progress_bar: a progress bar on stderr; None shows one when the `stcompile` logger is at INFO or below.
            convert_to_tensor: a torch tensor in main memory; needs torch, which is imported for this alone. False, the
                default here, gives `SparseVectors`.
            convert_to_sparse_tensor: False gives dense vectors: of a vocabulary of 30,522 tokens 122 kB each.
            save_to_cpu: results are in main memory anyway.
            device: where the encoder computes anyway, or None.
            max_active_dims: keep only the so many largest numbers of a vector by their size, of equal ones the first;
                None takes the model's default. A number above the width keeps all.
            pool: None; an encoder computes on the threads of one process.
            chunk_size: None, as `pool`.
            task: which graph of a Router to take, e.g. `query`; None takes its default.

        Returns:
            `SparseVectors` `(n, dim)`, for a single text a `SparseVector`; as dense vectors float32 `(n, dim)` or
            `(dim,)`; tensors of the same shape, sparse ones in coordinates (COO).

        Raises:
            InputError: something other than text, an unknown prompt, a bad number, another device.
            ProviderError: there is no device of that name.
            MissingExtraError: tensors or a progress bar are asked for, and torch or tqdm is not installed.
        """
        return self._encoded(inputs, options, None)

    @_encode_method
    def encode_query(self, inputs: Sentences, options: SparseOptions) -> Any:
        """`encode` for the task `query`, with the prompt of that name; all else as of `encode`."""
        return self._encoded(inputs, options, QUERY)

    @_encode_method
    def encode_document(self, inputs: Sentences, options: SparseOptions) -> Any:
        """`encode` for the task `document`, with the first prompt of `document`, `passage`, `corpus` that there is."""
        return self._encoded(inputs, options, DOCUMENT)

    @_encode_method
    def encode_iter(self, inputs: Iterable[Any], options: SparseOptions) -> Iterator[Any]:
        """Encodes a stream: what `encode` would give for each text, one by one, in order.

        Holds some thousand texts at a time, however many there are. Arguments and errors as of `encode`; where going
        through `inputs` raises, or one of them is no text, the vectors of all before it come first, then the error.
        """
        return self._streamed(inputs, options)

    def decode(self, embeddings: Sparse, top_k: int | None = None) -> Any:
        """The tokens of sparse vectors with their weights, the heaviest first, of equal ones the first.

        Args:
            embeddings: what `encode` gave, or vectors `(dim,)` or `(n, dim)` in any other form.
            top_k: so many of each; None gives all that are not zero.

        Returns:
            a list of `(token, weight)` of each vector; of a single one its own.

        Raises:
            InputError: no vectors of this model's width, or its dimensions are no tokens.
        """
        return self._vocabulary("decode").decode(embeddings, top_k)

    def token_weights(self, embeddings: Sparse) -> Any:
        """Sparse vectors as token to weight, the form of Elasticsearch's and OpenSearch's sparse fields.

        Args:
            embeddings: as of `decode`.

        Returns:
            a dictionary of each vector; of a single one its own. Left out are zeros and less, which those cannot hold,
            and what the tokenizer has no name for, where the network's vocabulary is larger.

        Raises:
            InputError: as of `decode`.
        """
        return self._vocabulary("token_weights").token_weights(embeddings)

    @staticmethod
    def sparsity(embeddings: Sparse) -> dict[str, float]:
        """How many numbers of vectors are not zero on average (`active_dims`), and the share of zeros
        (`sparsity_ratio`).

        Raises:
            InputError: it is no vectors.
        """
        vectors, _ = as_sparse("sparsity", embeddings)
        if not len(vectors) or not vectors.dim:
            return {"active_dims": 0.0, "sparsity_ratio": 1.0}
        active = int(np.count_nonzero(vectors.values)) / len(vectors)
        return {"active_dims": active, "sparsity_ratio": 1 - active / vectors.dim}

    @staticmethod
    def intersection(embeddings_1: Sparse, embeddings_2: Sparse) -> SparseVector | SparseVectors:
        """What one vector has in common with others: their products, where these are above zero.

        Args:
            embeddings_1: one vector.
            embeddings_2: one vector, or several.

        Returns:
            of one a `SparseVector`, of several `SparseVectors`.

        Raises:
            InputError: the first is not one vector, or they are of several widths.
        """
        (one, is_one), (others, single) = (as_sparse("intersection", item) for item in (embeddings_1, embeddings_2))
        if not is_one:
            raise InputError(
                f"intersection takes one vector first, not a list or matrix of {len(one)}: pass one of them"
            )
        if len(others) and one.dim != others.dim:
            raise InputError(f"intersection takes vectors of one width, got {one.dim} and {others.dim}")
        dense, rows = one[0].toarray(), []
        for other in others:
            values = dense[other.indices] * other.values
            rows.append(SparseVector(other.indices[values > 0], values[values > 0], other.dim))
        return rows[0] if single else SparseVectors.of(rows, one.dim)

    def similarity(self, embeddings1: Sparse, embeddings2: Sparse) -> NDArray[np.float32]:
        """Similarity of every vector of one set to every vector of another, by the model's own measure.

        Args:
            embeddings1: what `encode` gave, or vectors `(n, dim)` or `(dim,)` in any other form.
            embeddings2: the same, `(m, dim)` or `(dim,)`.

        Returns:
            float32 `(n, m)`; larger is more alike, distances are negative.

        Raises:
            InputError: they are no vectors, or of several widths.
        """
        left, right, _ = _alike("similarity", embeddings1, embeddings2)
        return similarity(self.similarity_fn_name, left, right)

    def similarity_pairwise(self, embeddings1: Sparse, embeddings2: Sparse) -> NDArray[np.float32]:
        """Similarity of each vector to the one at its place in another set, by the model's own measure.

        Arguments as of `similarity`.

        Returns:
            float32 `(n,)`, of two single vectors `()`; larger is more alike, distances are negative.

        Raises:
            InputError: as `similarity`, or one has more vectors than the other.
        """
        left, right, single = _alike("similarity_pairwise", embeddings1, embeddings2)
        if len(left) != len(right):
            raise InputError(f"similarity_pairwise takes equally many vectors, got {len(left)} and {len(right)}")
        found = [
            similarity(self.similarity_fn_name, left[place : place + 1], right[place : place + 1])[0, 0]
            for place in range(len(left))
        ]
        return np.array(found[0] if single else found, np.float32)

    def _made(
        self, made: NDArray[np.float32], feeds: Feeds, route: OpenRoute, options: SparseOptions
    ) -> list[SparseVector]:
        return rows_of(made, route.max_active_dims if options.max_active_dims is None else options.max_active_dims)

    def _shaped(self, found: list[SparseVector], single: bool, route: OpenRoute, options: SparseOptions) -> Any:
        return _shaped(SparseVectors.of(found, route.dim), single, options)

    def _vocabulary(self, what: str) -> Vocabulary:
        if self._tokens is None:
            raise InputError(f"{what} names tokens, and the dimensions of this model are learned features")
        return self._tokens

    @functools.cached_property
    def _tokens(self) -> Vocabulary | None:
        """The tokens that the dimensions are; None where they are none."""
        graph = next((graph for graph in self._manifest.graphs if graph.names_tokens), None)
        if graph is None:
            return None
        return Vocabulary(self._routes[graph.route].tokenizer, self._manifest.dim_of(graph))


def _shaped(vectors: SparseVectors, single: bool, options: SparseOptions) -> Any:
    """What the caller gets of all rows."""
    if not options.convert_to_tensor:
        if options.convert_to_sparse_tensor:
            return vectors[0] if single else vectors
        return vectors.toarray()[0] if single else vectors.toarray()
    torch = imported_torch()
    if not options.convert_to_sparse_tensor:
        dense = torch.from_numpy(vectors.toarray())
        return dense[0] if single else dense
    columns = vectors.indices.astype(np.int64)
    places, shape = (columns[None], (vectors.dim,)) if single else (np.stack([vectors.rows, columns]), vectors.shape)
    return torch.sparse_coo_tensor(
        torch.from_numpy(places), torch.from_numpy(vectors.values), shape, is_coalesced=True, check_invariants=False
    )


def _alike(name: str, first: Sparse, second: Sparse) -> tuple[SparseVectors, SparseVectors, bool]:
    (left, one), (right, other) = as_sparse(name, first), as_sparse(name, second)
    if len(left) and len(right) and left.dim != right.dim:
        raise InputError(f"{name} takes vectors of one width, got {left.dim} and {right.dim}")
    return left, right, one and other
