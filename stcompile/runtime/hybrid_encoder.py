"""`HybridEncoder`: text to a dense vector, a sparse one and one of each token in one pass, as bge-m3 makes them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stcompile.artifact.manifest import HYBRID, VECTORS, Manifest
from stcompile.errors import InputError
from stcompile.runtime import batching
from stcompile.runtime.distinct import Distinct
from stcompile.runtime.encoder import Encoder
from stcompile.runtime.hybrid_embeddings import (
    DENSE,
    MULTI_VECTOR,
    OUTPUTS,
    SPARSE,
    HybridEmbeddings,
    HybridScores,
    sparse_of,
)
from stcompile.runtime.inputs import Sentences, at_least_one, check_stream, listed
from stcompile.runtime.late_interaction import as_texts, maxsim
from stcompile.runtime.options import prompt_of
from stcompile.runtime.progress import progress
from stcompile.runtime.route import OpenRoute
from stcompile.runtime.signatures import called_with
from stcompile.runtime.sparse_similarity import similarity as sparse_similarity
from stcompile.runtime.sparse_vectors import Sparse, SparseVectors, as_sparse
from stcompile.runtime.text.base import Text
from stcompile.runtime.token_rows import rows_of
from stcompile.runtime.vocabulary import Vocabulary

# Texts whose results a stream holds at once: vectors of a text are hundreds.
_WINDOW = batching.WINDOW // 8


@dataclass(frozen=True)
class HybridOptions:
    """One call's options, as `HybridEncoder.encode_hybrid` takes them beside its texts."""

    prompt_name: str | None = None
    prompt: str | None = None
    batch_size: int | None = None
    show_progress_bar: bool | None = None
    outputs: Sequence[str] | None = None
    task: str | None = field(default=None, kw_only=True)

    def settled(self, manifest: Manifest, made: tuple[str, ...]) -> HybridOptions:
        """The same with every default filled in; `made` is what the artifact makes.

        Raises:
            InputError: one is wrong.
        """
        asked = made if self.outputs is None else self.outputs
        wanted = tuple(asked) if isinstance(asked, (list, tuple, set, frozenset)) else (asked,)
        unknown = [name for name in wanted if name not in made]
        if unknown or not wanted:
            raise InputError(
                f"outputs must be some of {', '.join(made)}, which this artifact makes; got {asked!r}: export it with "
                f"--outputs {','.join(OUTPUTS)} for all"
            )
        return replace(
            self,
            prompt_name=None,
            prompt=prompt_of(self.prompt, self.prompt_name, manifest, None),
            batch_size=None if self.batch_size is None else at_least_one("batch_size", self.batch_size),
            outputs=tuple(name for name in OUTPUTS if name in wanted),
        )


_hybrid_method: Callable[[Any], Any] = functools.partial(called_with, HybridOptions)


class HybridEncoder(Encoder):
    """Turns text into dense vectors, as every `Encoder`, and in the same pass into sparse ones and vectors of tokens.

    Made by `stcompile.load` of what was exported with `--outputs dense,sparse,multi_vector`. All else as of `Encoder`.
    """

    kind = HYBRID

    @property
    def outputs(self) -> tuple[str, ...]:
        """What it makes of a text: `dense`, and `sparse` or `multi_vector` or both."""
        names = {output.name for output in self._manifest.graphs[0].outputs}
        return tuple(name for name, output in OUTPUTS.items() if output in names)

    @property
    def token_dim(self) -> int:
        """Width of a token's vector; 0 where it makes none."""
        found = {output.name: output.axes for output in self._manifest.graphs[0].outputs}
        return int(found[VECTORS][-1]) if VECTORS in found else 0

    @_hybrid_method
    def encode_hybrid(self, inputs: Sentences, options: HybridOptions) -> HybridEmbeddings:
        """Encodes text in every form by one pass of the graph, as FlagEmbedding's `BGEM3FlagModel.encode` does.

        Args:
            inputs: one text, or any number of texts in an order, as of `encode`.
            prompt_name: which of `prompts` to put in front of each text.
            prompt: the text to put in front of each text; wins over `prompt_name`.
            batch_size: texts per run of the graph; None makes batches of the artifact's token budget, which is faster.
            show_progress_bar: a progress bar on stderr; None shows one when the `stcompile` logger is at INFO or below.
            outputs: some of `HybridEncoder.outputs`; None is all of them.
            task: as of `encode`.

        Returns:
            `HybridEmbeddings`. `dense` is what `encode` gives. `sparse` has for each token of the vocabulary that the
            text has the largest of its weights, FlagEmbedding's `lexical_weights`, special tokens left out;
            `multi_vector` a vector of each token but the first, FlagEmbedding's `colbert_vecs`.

        Raises:
            InputError: something other than text, an unknown prompt or output, a bad number.
            MissingExtraError: a progress bar is asked for, and tqdm is not installed.
        """
        options = options.settled(self._manifest, self.outputs)
        items, single = listed(inputs)
        reading = self._reading(options.task)
        texts = [reading.text(item, place) for place, item in enumerate(items)]
        with progress(len(texts), options.show_progress_bar) as bar:
            found = self._hybrid(reading.route, texts, options, bar)
        return _of_text(found, 0) if single else found

    @_hybrid_method
    def encode_hybrid_iter(self, inputs: Iterable[Any], options: HybridOptions) -> Iterator[HybridEmbeddings]:
        """Encodes a stream: what `encode_hybrid` would give for each text, one by one, in order.

        Holds some hundred texts at a time, however many there are. Arguments and errors as of `encode_hybrid`; where
        going through `inputs` raises, or one of them is no text, the results of all before it come first.
        """
        options = options.settled(self._manifest, self.outputs)
        check_stream(inputs)
        reading = self._reading(options.task)

        def results(texts: list[Text], bar: Any) -> Iterator[HybridEmbeddings]:
            found = self._hybrid(reading.route, texts, options, bar)
            return (_of_text(found, place) for place in range(len(texts)))

        return self._results(iter(inputs), reading, _WINDOW, options.show_progress_bar, results)

    def similarity_hybrid(
        self, embeddings1: HybridEmbeddings, embeddings2: HybridEmbeddings, weights: Mapping[str, float] | None = None
    ) -> HybridScores:
        """How alike texts of one set are to those of another, in each form that both have, and together.

        As FlagEmbedding's `compute_score`, of every pair.

        Args:
            embeddings1: queries, as `encode_hybrid` gave them; a single text is one of one.
            embeddings2: documents.
            weights: of each form in the mean; None weighs all that there are alike.

        Raises:
            InputError: they have no form in common, or a weight is of another one, or no number from 0 on.
        """
        found = {
            DENSE: self.similarity,
            SPARSE: _sparse_scores,
            MULTI_VECTOR: _multi_vector_scores,
        }
        pairs = {name: (getattr(embeddings1, name), getattr(embeddings2, name)) for name in found}
        scores = {
            name: score(*pairs[name]) for name, score in found.items() if all(side is not None for side in pairs[name])
        }
        chosen = dict.fromkeys(scores, 1.0) if weights is None else dict(weights)
        wrong = [name for name, weight in chosen.items() if name not in scores or not _is_weight(weight)]
        if not scores or wrong or not sum(chosen.values()):
            raise InputError(
                f"similarity_hybrid weighs {', '.join(scores) or 'nothing that both sides have'} by numbers from 0 on, "
                f"not all 0, got {chosen}: encode both sides with the same outputs"
            )
        total = sum(scores[name] * np.float32(weight) for name, weight in chosen.items())
        combined = np.asarray(total / np.float32(sum(chosen.values())), np.float32)
        return HybridScores(scores.get(DENSE), scores.get(SPARSE), scores.get(MULTI_VECTOR), combined)

    def decode(self, embeddings: Sparse, top_k: int | None = None) -> Any:
        """The tokens of sparse vectors with their weights, the heaviest first. All as of `SparseEncoder.decode`."""
        return self._vocabulary.decode(embeddings, top_k)

    def token_weights(self, embeddings: Sparse) -> Any:
        """Sparse vectors as token to weight, FlagEmbedding's `convert_id_to_token`. All as of
        `SparseEncoder.token_weights`.
        """
        return self._vocabulary.token_weights(embeddings)

    @functools.cached_property
    def _vocabulary(self) -> Vocabulary:
        for graph in self._manifest.graphs:
            if graph.weights is not None:
                return Vocabulary(self._routes[graph.route].tokenizer, graph.weights.dim)
        raise InputError("this artifact makes no sparse vectors: export it with --outputs dense,sparse")

    def _hybrid(self, route: OpenRoute, texts: list[Text], options: HybridOptions, bar: Any) -> HybridEmbeddings:
        distinct = Distinct.of(texts)
        wanted = tuple(options.outputs or ())
        keep = self._manifest.truncate_dim
        dense = np.empty((len(texts), min(keep or route.dim, route.dim)), np.float32)
        ragged: dict[str, dict[int, Any]] = {SPARSE: {}, MULTI_VECTOR: {}}
        outputs = tuple(OUTPUTS[name] for name in wanted)
        for rows, feeds, made in route.run_all(distinct.texts, options.prompt, options.batch_size, outputs):
            parts = dict(zip(wanted, made, strict=True))
            results: dict[str, Sequence[Any]] = {}
            if DENSE in parts:
                distinct.write(rows, parts[DENSE][:, :keep], dense)
            if SPARSE in parts:
                assert route.weights is not None
                results[SPARSE] = sparse_of(parts[SPARSE], feeds, route.weights)
            if MULTI_VECTOR in parts:
                assert route.rows is not None
                results[MULTI_VECTOR] = rows_of(parts[MULTI_VECTOR], feeds, route.rows)
            for name, found in results.items():
                for row, result in zip(rows, found, strict=True):
                    ragged[name].update(distinct.each(row, result))
            bar.update(distinct.count(rows))
        return HybridEmbeddings(
            dense if DENSE in wanted else None,
            SparseVectors.of([ragged[SPARSE][place] for place in range(len(texts))], route.weights.dim)
            if SPARSE in wanted and route.weights is not None
            else None,
            [ragged[MULTI_VECTOR][place] for place in range(len(texts))] if MULTI_VECTOR in wanted else None,
        )


def _of_text(found: HybridEmbeddings, place: int) -> HybridEmbeddings:
    """Those of one text alone."""
    return HybridEmbeddings(
        *(None if part is None else part[place] for part in (found.dense, found.sparse, found.multi_vector))
    )


def _sparse_scores(left: Sparse, right: Sparse) -> Any:
    return sparse_similarity("dot", as_sparse("similarity_hybrid", left)[0], as_sparse("similarity_hybrid", right)[0])


def _multi_vector_scores(left: Any, right: Any) -> Any:
    return maxsim(as_texts("similarity_hybrid", left), as_texts("similarity_hybrid", right), by_length=True)


def _is_weight(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")
