"""`Encoder`: text to embeddings, with the meaning and defaults of `SentenceTransformer.encode`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact import Artifact, open_artifact
from stcompile.errors import InputError, StcompileError
from stcompile.manifest import SENTENCE, TOKENS
from stcompile.runtime import batching, postprocess
from stcompile.runtime.cpus import available_cpus
from stcompile.runtime.device import CPU, Device
from stcompile.runtime.distinct import Distinct
from stcompile.runtime.inputs import Sentences, at_least_one, checked_texts, listed, without_keys
from stcompile.runtime.opened import Opened, Origin
from stcompile.runtime.progress import progress
from stcompile.runtime.route import OpenRoute, route_of
from stcompile.runtime.text.base import Text
from stcompile.runtime.token_rows import token_rows

_QUERY_NAMES = ("query",)
_DOCUMENT_NAMES = ("document", "passage", "corpus")

# More than any machine has; a slip of the finger must not start a million threads.
_MOST_THREADS = 1024

# sentence-transformers' own default.
_TOKEN_ROWS_BATCH = 32


def load(
    folder: str | Path,
    *,
    device: str = CPU,
    threads: int | None = None,
    cuda_graphs: bool = False,
    check_integrity: bool = True,
) -> Encoder:
    """Opens an artifact for encoding.

    Args:
        folder: what `stcompile export` wrote.
        device: `cpu`, `cuda` or `cuda:1`. Asking for a GPU and not getting it is an error, never a CPU run.
        threads: engine threads; None takes the CPUs this process may use (affinity and container quota).
        cuda_graphs: capture small runs on a GPU as CUDA graphs, one for each length and power of two of texts: fewer
            launches, more memory. Not measured yet.
        check_integrity: compare every file with its sha256 first (about 1 s per GB).

    Raises:
        ArtifactError: the folder is missing, corrupt, tampered with or of a newer schema.
        ProviderError: the device is not available.
        MissingExtraError: the engine is not installed.
        InputError: a number is out of range, or graphs are asked for on a CPU.
    """
    if threads is not None and (not isinstance(threads, int) or not 1 <= threads <= _MOST_THREADS):
        raise InputError(f"threads must be a whole number from 1 to {_MOST_THREADS} or None, got {threads!r}")
    return Encoder(
        open_artifact(folder, check_integrity=check_integrity),
        device=device,
        threads=threads,
        cuda_graphs=cuda_graphs,
        check_integrity=check_integrity,
    )


class Encoder:
    """Turns text into embeddings. One encoder may be used from several threads at once.

    Made by `stcompile.load`. It may be pickled: by its folder and options, and opened again where it is unpickled. A
    forked child opens the folder again when it first encodes. As a context it is closed at the end.

    Attributes:
        artifact: what it was made from.
        device: where it computes.
        threads: threads that it computes on.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        device: str = CPU,
        threads: int | None = None,
        cuda_graphs: bool = False,
        check_integrity: bool = True,
    ) -> None:
        self.artifact = artifact
        self._manifest = artifact.manifest
        self.device = Device.parse(device, graphs=cuda_graphs)
        self.threads = available_cpus() if threads is None else threads
        # Another machine may have more CPUs or fewer.
        self._asked_threads = threads
        self._is_single_threaded = False
        self._origin = Origin.of(artifact.folder, check_integrity=check_integrity)
        self._opened = Opened(artifact, self._origin, self.device, self.threads)

    def single_threaded(self) -> Encoder:
        """The same encoder for callers that bring threads of their own: every call computes on its caller's thread.

        For a pool of as many threads as `threads`; one engine serves them all, until either encoder is closed.
        """
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, _is_single_threaded=True)
        # Opened here, not in the first call.
        _ = other._routes
        return other

    def close(self) -> None:
        """Lets go of the engine and its memory. May be called more than once; calls that began before end well."""
        self._opened.close()

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._opened.is_closed:
            raise StcompileError("the encoder is closed and cannot be copied or pickled: load the artifact again")
        device = str(self.device), self._asked_threads, self.device.graphs
        return _opened_again, (type(self), self._origin, *device, self._is_single_threaded)

    def __repr__(self) -> str:
        state = ", closed" if self._opened.is_closed else ""
        return (
            f"{type(self).__name__}({self._origin.folder.name!r}, target={self._manifest.target!r}, "
            f"dim={self.get_sentence_embedding_dimension()}, device={str(self.device)!r}, threads={self.threads}{state})"
        )

    @property
    def _routes(self) -> dict[str, OpenRoute]:
        return self._opened.routes(single_threaded=self._is_single_threaded)

    @property
    def max_seq_length(self) -> int | None:
        """Most tokens of a text, special tokens included; longer ones are cut. None when unlimited.

        Of several routes, that of the longest.
        """
        limits = [self._manifest.text_of(graph).max_seq_length for graph in self._manifest.graphs]
        known = [limit for limit in limits if limit is not None]
        return max(known) if len(known) == len(limits) else None

    @property
    def tasks(self) -> tuple[str, ...]:
        """What `task` may be; empty where the model has one route for everything."""
        return () if self._manifest.routing is None else tuple(self._manifest.routing.tasks)

    @property
    def prompts(self) -> dict[str, str]:
        """Prompt name to the text that is put in front."""
        return dict(self._manifest.prompts)

    @property
    def default_prompt_name(self) -> str | None:
        """The prompt that `encode` uses when none is asked for."""
        return self._manifest.default_prompt_name

    @property
    def similarity_fn_name(self) -> str:
        """`cosine`, `dot`, `euclidean` or `manhattan`."""
        return self._manifest.similarity

    @property
    def truncate_dim(self) -> int | None:
        """How many dimensions the model keeps by default; None keeps all."""
        return self._manifest.truncate_dim

    def get_sentence_embedding_dimension(self) -> int:
        """Width of what `encode` returns by default; of several routes, that of the default one."""
        kept = self.truncate_dim
        return self._manifest.dim if kept is None else min(kept, self._manifest.dim)

    get_embedding_dimension = get_sentence_embedding_dimension

    def encode(
        self,
        sentences: Sentences,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: SupportsIndex | None = None,
        show_progress_bar: bool | None = None,
        output_value: str = SENTENCE,
        precision: str = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: SupportsIndex | None = None,
        task: str | None = None,
    ) -> Any:
        """Encodes text, as `SentenceTransformer.encode` does.

        Args:
            sentences: one text, or a sequence of texts; an item may also be a pair of texts, which the
                tokenizer joins into one sequence, or `{task: text}` where the model has a Router.
            prompt_name: which of `prompts` to put in front of each text.
            prompt: the text to put in front of each text; wins over `prompt_name`.
            batch_size: texts per run of the graph; None makes batches of the artifact's token budget, which is faster
                and keeps memory flat whatever the texts' lengths. Token embeddings, whose rows show the padding of a
                batch, come from batches of 32 then, as in sentence-transformers.
            show_progress_bar: a progress bar on stderr; None shows one when the `stcompile` logger is at
                INFO or below.
            output_value: `sentence_embedding`, or `token_embeddings` when the artifact was exported with them.
            precision: `float32`, `int8`, `uint8`, `binary` or `ubinary`, see `postprocess.quantize`.
            normalize_embeddings: scale each vector to length 1 (after `truncate_dim`).
            truncate_dim: keep only the first so many dimensions; None takes the model's default.
            task: which route of a Router to take, e.g. `query`; None takes its default. Means nothing without one.

        Returns:
            float32 `(n, dim)`, for a single text `(dim,)`, for no text `(0, dim)`; int8 or uint8 for the other
            precisions. For `token_embeddings` a list of float32 `(tokens, hidden)`, trailing padding removed.

        Raises:
            InputError: something other than text, an unknown prompt, precision or output, a bad number.
        """
        items, single = listed(sentences)
        if self._manifest.routing is not None:
            items, task = without_keys(items, task)
        texts = checked_texts(items)
        route = self._routes[route_of(self._manifest.routing, task)]
        if not route.takes_pairs and any(not isinstance(text, str) for text in texts):
            raise InputError("this model cannot take pairs of texts: join each into one text")
        size = None if batch_size is None else at_least_one("batch_size", batch_size)
        keep = self.truncate_dim if truncate_dim is None else at_least_one("truncate_dim", truncate_dim)
        if precision not in postprocess.PRECISIONS:
            raise InputError(f"unknown precision {precision!r}: choose one of {', '.join(postprocess.PRECISIONS)}")
        _check_output(output_value, route)
        call = _Call(route, self._resolve_prompt(prompt_name, prompt), size, keep, normalize_embeddings)
        with progress(len(texts), show_progress_bar) as bar:
            if output_value == TOKENS:
                tokens = call.tokens(texts, bar)
                return tokens[0] if single else tokens
            embeddings = call.embeddings(texts, bar)
        result = postprocess.quantize(embeddings, precision)
        return result[0] if single else result

    def encode_iter(self, sentences: Iterable[Any], **options: Any) -> Iterator[Any]:
        """Encodes a stream: what `encode` would give for each text, one by one, in order.

        Holds some thousand texts at a time, however many there are: for inputs larger than memory.

        Args:
            sentences: anything to go through once: a file, a generator, a database cursor.
            options: those of `encode`.

        Returns:
            an iterator over the vector of each text, `(dim,)`; for `token_embeddings` its float32 `(tokens, hidden)`.

        Raises:
            InputError: as `encode`, when the window with the wrong text is reached; at once if nothing can be gone
                through, or for int8 and uint8 precision, whose ranges are taken from all texts of a call.
        """
        if options.get("precision") in ("int8", "uint8"):
            raise InputError(
                f"precision={options['precision']!r} takes its ranges from all texts of a call, which a stream never "
                "holds: stream float32 and quantize afterwards, or ask for binary or ubinary"
            )
        if isinstance(sentences, (str, bytes, dict)):
            raise InputError("encode_iter takes many texts, one after the other: use encode for a single one")
        try:
            coming = iter(sentences)
        except TypeError as error:
            raise InputError(f"encode_iter takes texts to go through, got {type(sentences).__name__}") from error
        return self._stream(coming, options)

    def _stream(self, coming: Iterator[Any], options: dict[str, Any]) -> Iterator[Any]:
        start = 0
        while window := list(islice(coming, batching.WINDOW)):
            # Here, where the place in the whole stream is known.
            checked_texts([item for item in window if not isinstance(item, dict)], start)
            yield from self.encode(window, **options)
            start += len(window)

    def encode_query(self, sentences: Sentences, prompt_name: str | None = None, **options: Any) -> Any:
        """`encode` for the task `query`, with the prompt of that name; takes the options of `encode`.

        Raises:
            InputError: as `encode`.
        """
        return self._encode_as("query", _QUERY_NAMES, sentences, {"prompt_name": prompt_name, **options})

    def encode_document(self, sentences: Sentences, prompt_name: str | None = None, **options: Any) -> Any:
        """`encode` for the task `document`, with the first prompt of `document`, `passage`, `corpus` there is.

        Raises:
            InputError: as `encode`.
        """
        return self._encode_as("document", _DOCUMENT_NAMES, sentences, {"prompt_name": prompt_name, **options})

    def similarity(self, left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float32]:
        """Similarity of every vector of `left` to every vector of `right`, by the model's own measure.

        Args:
            left: `(n, dim)` or `(dim,)`.
            right: `(m, dim)` or `(dim,)`.

        Returns:
            float32 `(n, m)`; larger is more alike, distances are negative.

        Raises:
            InputError: neither vectors nor matrices, or of different widths.
        """
        a, b = _matrix(left), _matrix(right)
        if a.shape[1] != b.shape[1]:
            raise InputError(f"similarity takes vectors of one width, got {a.shape[1]} and {b.shape[1]}")
        return postprocess.similarity(self.similarity_fn_name, a, b)

    def _encode_as(self, task: str, names: tuple[str, ...], sentences: Sentences, options: dict[str, Any]) -> Any:
        if options.get("prompt") is None and options.get("prompt_name") is None:
            found = next((name for name in names if name in self._manifest.prompts), None)
            # The default prompt belongs to plain `encode`; an empty prompt keeps it out.
            options = {**options, **({"prompt": ""} if found is None else {"prompt_name": found})}
        return self.encode(sentences, **{"task": task, **options})

    def _resolve_prompt(self, prompt_name: str | None, prompt: str | None) -> str | None:
        if prompt is not None:
            if not isinstance(prompt, str):
                raise InputError(f"prompt must be text, got {type(prompt).__name__}")
            return prompt
        name = prompt_name if prompt_name is not None else self.default_prompt_name
        if name is None:
            return None
        if not isinstance(name, str) or name not in self._manifest.prompts:
            known = ", ".join(map(repr, self._manifest.prompts)) or "none"
            raise InputError(f"unknown prompt {name!r}: this model has {known}; pass prompt= for a text of your own")
        return self._manifest.prompts[name]


def _opened_again(
    kind: type[Encoder], origin: Origin, device: str, threads: int | None, graphs: bool, is_single_threaded: bool
) -> Encoder:
    """The encoder that was pickled."""
    encoder = kind(
        origin.open(),
        device=device,
        threads=threads,
        cuda_graphs=graphs,
        check_integrity=origin.check_integrity,
    )
    return encoder.single_threaded() if is_single_threaded else encoder


def _check_output(output_value: str, route: OpenRoute) -> None:
    if output_value not in (SENTENCE, TOKENS):
        raise InputError(f"unknown output_value {output_value!r}: choose {SENTENCE} or {TOKENS}")
    if output_value not in route.outputs:
        raise InputError(f"this artifact has no {output_value}: export it with --outputs {SENTENCE},{output_value}")


@dataclass(frozen=True)
class _Call:
    """One call of `encode`, checked.

    Attributes:
        route: what runs.
        prompt: the text in front of each text, or None.
        batch_size: texts of a run; None takes the artifact's token budget.
        keep: dimensions of a vector that are kept; None keeps all.
        normalize: scale each vector to length 1.
    """

    route: OpenRoute
    prompt: str | None
    batch_size: int | None
    keep: int | None
    normalize: bool

    def embeddings(self, texts: list[Text], bar: Any) -> NDArray[np.float32]:
        """float32 `(n, dim)`."""
        distinct = Distinct.of(texts)
        found = np.zeros((len(distinct.texts), min(self.keep or self.route.dim, self.route.dim)), dtype=np.float32)
        for rows, _, vectors in self.route.run(distinct.texts, self.prompt, self.batch_size, SENTENCE):
            kept = vectors[:, : self.keep]
            found[rows] = postprocess.normalize(kept) if self.normalize else kept
            bar.update(distinct.count(rows))
        return found if distinct.places is None else found[distinct.places]

    def tokens(self, texts: list[Text], bar: Any) -> list[NDArray[np.float32]]:
        """float32 `(tokens, hidden)` of each text."""
        found: dict[int, NDArray[np.float32]] = {}
        # What is padded on the left stays in the rows: here it shows which texts shared a batch.
        size = _TOKEN_ROWS_BATCH if self.batch_size is None else self.batch_size
        for rows, feeds, hidden in self.route.run(texts, self.prompt, size, TOKENS):
            pieces = token_rows(hidden, feeds["attention_mask"], pads_to_multiple=self.route.pads_to_multiple)
            found.update(zip(rows, pieces, strict=True))
            bar.update(len(rows))
        return [found[index] for index in range(len(texts))]


def _matrix(vectors: NDArray[Any]) -> NDArray[np.float32]:
    array = np.asarray(vectors, dtype=np.float32)
    if array.ndim not in (1, 2):
        raise InputError(f"similarity takes vectors (dim,) or matrices (n, dim), got shape {array.shape}")
    return np.atleast_2d(array)
