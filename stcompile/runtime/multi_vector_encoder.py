"""`MultiVectorEncoder`: text to a vector of each of its tokens, as `MultiVectorEncoder` of sentence-transformers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from stcompile.artifact.manifest import MEAN_MAXSIM, MULTI_VECTOR, TOKENS, Manifest
from stcompile.errors import InputError
from stcompile.runtime import batching
from stcompile.runtime.device import Device
from stcompile.runtime.embedding import OneByOne
from stcompile.runtime.inputs import Sentences, at_least_one
from stcompile.runtime.late_interaction import Vectors, as_texts, maxsim, maxsim_pairwise, padded
from stcompile.runtime.options import DOCUMENT, QUERY, check_call, imported_torch, prompt_of
from stcompile.runtime.postprocess import normalize
from stcompile.runtime.route import OpenRoute
from stcompile.runtime.signatures import called_with
from stcompile.runtime.text.base import Feeds
from stcompile.runtime.token_pooling import TokenPooling
from stcompile.runtime.token_rows import rows_of, without_pooling


@dataclass(frozen=True)
class MultiVectorOptions:
    """One call's options, as `MultiVectorEncoder.encode` takes them beside its texts."""

    prompt_name: str | None = None
    prompt: str | None = None
    batch_size: int | None = None
    show_progress_bar: bool | None = None
    output_value: str = TOKENS
    convert_to_numpy: bool = True
    device: object = None
    normalize_embeddings: bool = False
    pool: None = None
    chunk_size: None = None
    token_pooling: Any = None
    task: str | None = field(default=None, kw_only=True)

    def settled(self, manifest: Manifest, here: Device, role: str | None) -> MultiVectorOptions:
        """The same with every default filled in that does not depend on the route.

        Raises:
            InputError, ProviderError, MissingExtraError: as of `MultiVectorEncoder.encode`.
        """
        if self.output_value != TOKENS:
            raise InputError(f"a multi-vector encoder gives {TOKENS} alone, not {self.output_value!r}: leave it out")
        check_call(self.pool, self.chunk_size, self.device, here, tensor=not self.convert_to_numpy)
        task = role if self.task is None else self.task
        return replace(
            self,
            prompt_name=None,
            prompt=prompt_of(self.prompt, self.prompt_name, manifest, role),
            batch_size=None if self.batch_size is None else at_least_one("batch_size", self.batch_size),
            token_pooling=_pooling(self.token_pooling, task),
            task=task,
        )


_encode_method: Callable[[Any], Any] = functools.partial(called_with, MultiVectorOptions)


class MultiVectorEncoder(OneByOne):
    """Turns text into a vector of each of its tokens. One encoder may be used from several threads at once.

    Made by `stcompile.load`, or `MultiVectorEncoder.load`, which opens nothing else. It may be pickled: by its folder
    and options, and opened again where it is unpickled. A forked child opens the folder again when it first encodes. As
    a context it is closed at the end.

    Attributes:
        artifact: what it was made from.
        device: where it computes.
        threads: threads that it computes on.
    """

    kind = MULTI_VECTOR
    # Vectors of a text are hundreds.
    window = batching.WINDOW // 8

    @_encode_method
    def encode(self, inputs: Sentences, options: MultiVectorOptions) -> Any:
        """Encodes text, as `MultiVectorEncoder.encode` of sentence-transformers does; what has no task is a document.

        Args:
            inputs: one text, or any number of texts in an order, as of `Encoder.encode`. May be passed as `sentences`.
            prompt_name: which of `prompts` to put in front of each text.
            prompt: the text to put in front of each text; wins over `prompt_name`.
            batch_size: texts per run of the graph; None makes batches of the artifact's token budget, which is faster.
            show_progress_bar: a progress bar on stderr; None shows one when the `stcompile` logger is at INFO or below.
            output_value: `token_embeddings`: there is nothing else.
            convert_to_numpy: False gives torch tensors in main memory; needs torch, which is imported for this alone.
            device: where the encoder computes anyway, or None.
            normalize_embeddings: scale each vector to length 1, where the model does not do it.
            pool: None; an encoder computes on the threads of one process.
            chunk_size: None, as `pool`.
            token_pooling: a `TokenPooling`, or what has its fields, such as sentence-transformers'
                `HierarchicalTokenPooling`: fewer vectors of each document, on top of what the model does by itself.
                Where it names `tasks`, others are left alone; without, queries are.
            task: `query` or `document`, or another route of a Router; None takes the default.

        Returns:
            a list of float32 `(tokens, dim)`, for a single text its own; or tensors of these shapes.

        Raises:
            InputError: something other than text, an unknown prompt, a bad number, another device.
            ProviderError: there is no device of that name.
            MissingExtraError: tensors or a progress bar are asked for, and torch or tqdm is not installed; or tokens
                are pooled, and scipy is not.
        """
        return self._encoded(inputs, options, None)

    @_encode_method
    def encode_query(self, inputs: Sentences, options: MultiVectorOptions) -> Any:
        """`encode` for the task `query`, with the prompt of that name; all else as of `encode`."""
        return self._encoded(inputs, options, QUERY)

    @_encode_method
    def encode_document(self, inputs: Sentences, options: MultiVectorOptions) -> Any:
        """`encode` for the task `document`, with the first prompt of `document`, `passage`, `corpus` that there is."""
        return self._encoded(inputs, options, DOCUMENT)

    @_encode_method
    def encode_iter(self, inputs: Iterable[Any], options: MultiVectorOptions) -> Iterator[Any]:
        """Encodes a stream: what `encode` would give for each text, one by one, in order.

        Holds some thousand texts at a time, however many there are. Arguments and errors as of `encode`; where going
        through `inputs` raises, or one of them is no text, the vectors of all before it come first, then the error.
        """
        return self._streamed(inputs, options)

    def similarity(
        self,
        embeddings1: Any,
        embeddings2: Any,
        *,
        a_mask: Any = None,
        b_mask: Any = None,
        chunk_elements: int | None = None,
        length_normalize: bool | None = None,
        device: object = None,
    ) -> Vectors:
        """Score of every query with every document, by the model's own measure.

        The sum over a query's vectors of the largest product with any of the document's (MaxSim), or its mean.

        Args:
            embeddings1: queries, as `encode` gave them: a list of `(tokens, dim)`, one such matrix, or an array
                `(texts, tokens, dim)`, where rows of zeros are no vectors.
            embeddings2: documents, in the same forms.
            a_mask: 0 where a query's vector is left out: `(queries, tokens)`, or a list of `(tokens,)`.
            b_mask: the same of documents.
            chunk_elements: about so many products are there at once; None takes 4 million, 16 MB.
            length_normalize: True takes the mean, False the sum, None what the model does.
            device: where the encoder computes anyway, or None.

        Returns:
            float32 `(queries, documents)`. A document without a vector scores -1e9, a query without one 0.

        Raises:
            InputError: they are no vectors, or of several widths; a mask is shorter than what it is of; another device.
        """
        check_call(None, None, device, self.device, tensor=False)
        queries, documents = _both("similarity", embeddings1, embeddings2, a_mask, b_mask)
        most = {} if chunk_elements is None else {"most": at_least_one("chunk_elements", chunk_elements)}
        return maxsim(queries, documents, by_length=self._by_length(length_normalize), **most)

    def similarity_pairwise(
        self,
        embeddings1: Any,
        embeddings2: Any,
        *,
        a_mask: Any = None,
        b_mask: Any = None,
        chunk_elements: int | None = None,
        length_normalize: bool | None = None,
        device: object = None,
    ) -> Vectors:
        """Score of each query with the document at its place, by the model's own measure.

        Arguments as of `similarity`.

        Returns:
            float32 `(n,)`.

        Raises:
            InputError: as `similarity`, or there are more of one than of the other.
        """
        check_call(None, None, device, self.device, tensor=False)
        if chunk_elements is not None:
            at_least_one("chunk_elements", chunk_elements)
        queries, documents = _both("similarity_pairwise", embeddings1, embeddings2, a_mask, b_mask)
        if len(queries) != len(documents):
            raise InputError(
                f"similarity_pairwise takes as many queries as documents, got {len(queries)} and {len(documents)}"
            )
        return maxsim_pairwise(queries, documents, by_length=self._by_length(length_normalize))

    def padded(self, embeddings: Any, tokens: int | None = None) -> Vectors:
        """Vectors of several texts as one array of fixed size, for stores that want it.

        Args:
            embeddings: what `encode` gave.
            tokens: vectors of each text; None takes as many as the longest has.

        Returns:
            float32 `(texts, tokens, dim)`, zeros behind the vectors of a text, which `similarity` leaves out.

        Raises:
            InputError: they are no vectors, or a text has more.
        """
        texts = as_texts("padded", embeddings)
        most = None if tokens is None else at_least_one("tokens", tokens)
        dim = next((rows.shape[1] for rows in texts if len(rows)), self.get_embedding_dimension())
        return padded(texts, most, dim)

    def keep_all(self) -> None:
        """Leaves out from here on what the model does to have fewer vectors of a text.

        Parity compares all: of two vectors that are nearly equally far from a third, rounding decides which joins it.
        """
        for route in self._routes.values():
            assert route.rows is not None
            route.rows = without_pooling(route.rows)

    def _by_length(self, asked: bool | None) -> bool:
        return self.similarity_fn_name == MEAN_MAXSIM if asked is None else bool(asked)

    def _made(self, made: Vectors, feeds: Feeds, route: OpenRoute, options: MultiVectorOptions) -> list[Vectors]:
        assert route.rows is not None
        return [_finished(vectors, options) for vectors in rows_of(made, feeds, route.rows)]

    def _shaped(self, found: list[Vectors], single: bool, route: OpenRoute, options: MultiVectorOptions) -> Any:
        results: list[Any] = found
        if not options.convert_to_numpy:
            torch = imported_torch()
            results = [torch.from_numpy(vectors) for vectors in found]
        return results[0] if single else results


def _finished(vectors: Vectors, options: MultiVectorOptions) -> Vectors:
    if options.normalize_embeddings:
        vectors = normalize(vectors)
    return vectors if options.token_pooling is None else options.token_pooling.of(vectors)


def _pooling(asked: Any, task: str | None) -> TokenPooling | None:
    """How a call's vectors are made fewer; None where they are not, as of a task that it is not for.

    Raises:
        InputError: it is no such thing, or out of range.
    """
    if asked is None:
        return None
    try:
        found = TokenPooling(asked.pool_factor, asked.num_protected_tokens, bool(asked.normalize_embeddings))
    except AttributeError:
        raise InputError(
            "token_pooling takes a stcompile.TokenPooling, or a HierarchicalTokenPooling of sentence-transformers, got "
            f"{type(asked).__name__}"
        ) from None
    tasks = getattr(asked, "tasks", (DOCUMENT,))
    return found.checked() if (task or DOCUMENT) in tasks else None


def _both(what: str, first: Any, second: Any, a_mask: Any, b_mask: Any) -> tuple[list[Vectors], list[Vectors]]:
    left, right = as_texts(what, first, a_mask), as_texts(what, second, b_mask)
    widths = {rows.shape[1] for rows in (*left, *right) if len(rows)}
    if len(widths) > 1:
        raise InputError(f"{what} takes vectors of one width, got {' and '.join(map(str, sorted(widths)))}")
    return left, right
