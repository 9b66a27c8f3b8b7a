"""`Encoder`: text to embeddings, with the meaning and defaults of `SentenceTransformer.encode`."""

from __future__ import annotations

import logging
import operator
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact import Artifact, open_artifact
from stcompile.errors import InputError, MissingExtraError
from stcompile.manifest import SENTENCE, TOKENS
from stcompile.runtime import postprocess
from stcompile.runtime.route import OpenRoute, route_of
from stcompile.runtime.text.base import Feeds, Text

logger = logging.getLogger("stcompile")

# A text or {task: text}, or a sequence of texts, pairs of texts or {task: text}.
Sentences = str | dict[str, str] | Sequence[str] | Sequence[Sequence[str]] | Sequence[dict[str, str]]

_QUERY_NAMES = ("query",)
_DOCUMENT_NAMES = ("document", "passage", "corpus")

# More than any machine has; a slip of the finger must not start a million threads.
_MOST_THREADS = 1024


def load(
    folder: str | Path, *, provider: str = "cpu", threads: int | None = None, check_integrity: bool = True
) -> Encoder:
    """Opens an artifact for encoding.

    Args:
        folder: what `stcompile export` wrote.
        provider: `cpu` or `cuda`. Asking for CUDA and not getting it is an error, never a CPU run.
        threads: engine threads; None takes the CPUs this process may use (affinity and container quota).
        check_integrity: compare every file with its sha256 first (about 1 s per GB).

    Raises:
        ArtifactError: the folder is missing, corrupt, tampered with or of a newer schema.
        ProviderError: the provider is not available.
        MissingExtraError: the engine is not installed.
    """
    if threads is not None and (not isinstance(threads, int) or not 1 <= threads <= _MOST_THREADS):
        raise InputError(f"threads must be a whole number from 1 to {_MOST_THREADS} or None, got {threads!r}")
    return Encoder(open_artifact(folder, check_integrity=check_integrity), provider=provider, threads=threads)


class Encoder:
    """Turns text into embeddings. One encoder may be used from several threads at once.

    Made by `stcompile.load`.
    """

    def __init__(self, artifact: Artifact, *, provider: str = "cpu", threads: int | None = None) -> None:
        self.artifact = artifact
        self._manifest = artifact.manifest
        self._routes = {
            graph.route: OpenRoute(artifact.folder, self._manifest, graph, provider, threads)
            for graph in self._manifest.graphs
        }

    @property
    def max_seq_length(self) -> int | None:
        """Most tokens of a text, special tokens included; longer ones are cut. None when unlimited.

        Of several routes, that of the longest.
        """
        limits = [route.max_seq_length for route in self._routes.values()]
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
        batch_size: SupportsIndex = 32,
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
            batch_size: texts per run of the graph.
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
        single = isinstance(sentences, (str, dict))
        items: Any = [sentences] if single else _listed(sentences)
        if self._manifest.routing is not None:
            items, task = _without_keys(items, task)
        texts = _checked_texts(items)
        route = self._routes[route_of(self._manifest.routing, task)]
        if not route.takes_pairs and any(not isinstance(text, str) for text in texts):
            raise InputError("this model cannot take pairs of texts: join each into one text")
        prompt = self._resolve_prompt(prompt_name, prompt)
        size = _at_least_one("batch_size", batch_size)
        keep = self.truncate_dim if truncate_dim is None else _at_least_one("truncate_dim", truncate_dim)
        if precision not in postprocess.PRECISIONS:
            raise InputError(f"unknown precision {precision!r}: choose one of {', '.join(postprocess.PRECISIONS)}")
        _check_output(output_value, route)
        with _progress(len(texts), show_progress_bar) as bar:
            batches = _watched(route.batches(texts, prompt, size), bar)
            if output_value == TOKENS:
                tokens = _token_rows(route, len(texts), batches)
                return tokens[0] if single else tokens
            embeddings = np.zeros((len(texts), route.dim), dtype=np.float32)[:, :keep]
            for rows, feeds in batches:
                embeddings[rows] = route.run(feeds, SENTENCE)[:, :keep]
        if normalize_embeddings:
            embeddings = postprocess.normalize(embeddings)
        result = postprocess.quantize(np.ascontiguousarray(embeddings), precision)
        return result[0] if single else result

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


def _check_output(output_value: str, route: OpenRoute) -> None:
    if output_value not in (SENTENCE, TOKENS):
        raise InputError(f"unknown output_value {output_value!r}: choose {SENTENCE} or {TOKENS}")
    if output_value not in route.outputs:
        raise InputError(f"this artifact has no {output_value}: export it with --outputs {SENTENCE},{output_value}")


def _watched(batches: Iterator[tuple[list[int], Feeds]], bar: Any) -> Iterator[tuple[list[int], Feeds]]:
    for rows, feeds in batches:
        yield rows, feeds
        bar.update(len(rows))


def _token_rows(route: OpenRoute, count: int, batches: Iterator[tuple[list[int], Feeds]]) -> list[NDArray[np.float32]]:
    found: dict[int, NDArray[np.float32]] = {}
    for rows, feeds in batches:
        hidden = route.run(feeds, TOKENS)
        mask = feeds["attention_mask"]
        first = _surplus(mask) if route.pads_to_multiple else 0
        # Trailing padding only: sentence-transformers leaves the padding of left-padded rows in place.
        ends = np.maximum(mask.shape[1] - np.argmax(mask[:, ::-1], axis=1), 1)
        ends[~mask.any(axis=1)] = 1
        found.update((row, hidden[index, first : ends[index]].copy()) for index, row in enumerate(rows))
    return [found[index] for index in range(count)]


def _surplus(mask: NDArray[np.int64]) -> int:
    """Leading positions that no row of the batch needs: what was padded on the left for the engine's sake alone."""
    return int(np.argmax(mask.any(axis=0))) if mask.any() else 0


def _without_keys(items: Any, task: str | None) -> tuple[Any, str | None]:
    """`{task: text}` items as texts and their task, which all of a call must share."""
    if not any(isinstance(item, dict) for item in items):
        return items, task
    keys = dict.fromkeys(key for item in items if isinstance(item, dict) for key in item)
    if len(keys) != 1 or not all(isinstance(item, dict) and len(item) == 1 for item in items):
        raise InputError(
            "texts with keys must all have the same one, {task: text}: encode each task in a call of its own, or "
            "pass texts and task="
        )
    (key,) = keys
    if task is not None and task != key:
        raise InputError(f"the texts have the key {key!r}, but task={task!r} was passed: leave one of them out")
    return [item[key] for item in items], key


class _NoBar:
    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def update(self, _: int) -> None:
        return


def _progress(total: int, asked: bool | None) -> Any:
    if not (logger.getEffectiveLevel() <= logging.INFO if asked is None else asked):
        return _NoBar()
    try:
        from tqdm import tqdm  # noqa: PLC0415 - only when a bar is to be drawn
    except ImportError as error:
        if asked is None:
            return _NoBar()
        raise MissingExtraError("A progress bar needs tqdm, which is not installed: pip install tqdm") from error
    return tqdm(total=total, desc="Texts", unit="text")


def _listed(sentences: Any) -> list[Any]:
    try:
        if not isinstance(sentences, bytes):
            return list(sentences)
    except TypeError:
        pass
    raise InputError(f"encode takes a text or a list of texts, got {type(sentences).__name__}")


def _checked_texts(sentences: list[Any]) -> list[Text]:
    texts: list[Text] = []
    for index, item in enumerate(sentences):
        if isinstance(item, str):
            texts.append(item)
        elif isinstance(item, (list, tuple)) and len(item) == 2 and all(isinstance(part, str) for part in item):
            texts.append((item[0], item[1]))
        else:
            raise InputError(f"item {index} is {type(item).__name__}, not text: {_remedy(item)}")
    return texts


def _remedy(item: Any) -> str:
    if type(item).__module__.partition(".")[0] == "PIL":
        return "only the text side of a model is compiled; keep images on sentence-transformers"
    return "encode takes strings (or pairs of strings); drop or convert it"


def _at_least_one(name: str, value: SupportsIndex) -> int:
    try:
        # numpy's integers count; True is an int to Python, but here a slip
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")
    return number


def _matrix(vectors: NDArray[Any]) -> NDArray[np.float32]:
    array = np.asarray(vectors, dtype=np.float32)
    if array.ndim not in (1, 2):
        raise InputError(f"similarity takes vectors (dim,) or matrices (n, dim), got shape {array.shape}")
    return np.atleast_2d(array)
