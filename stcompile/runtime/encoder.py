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
from stcompile.runtime import batching, postprocess
from stcompile.runtime.engines import open_engine
from stcompile.runtime.text.transformer import Text, TransformerText

logger = logging.getLogger("stcompile")

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
        graph = self._manifest.graphs[0]
        self._outputs = tuple(spec.name for spec in graph.outputs)
        self._text = TransformerText(artifact.folder, self._manifest.text, [spec.name for spec in graph.inputs])
        self._engine = open_engine(artifact.folder, graph, self._manifest, provider, threads)

    @property
    def max_seq_length(self) -> int | None:
        """Most tokens of a text, special tokens included; longer ones are cut. None when unlimited."""
        return self._manifest.text.max_seq_length

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
        """Width of what `encode` returns by default."""
        kept = self.truncate_dim
        return self._manifest.dim if kept is None else min(kept, self._manifest.dim)

    get_embedding_dimension = get_sentence_embedding_dimension

    def encode(
        self,
        sentences: str | Sequence[str] | Sequence[Sequence[str]],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: SupportsIndex = 32,
        show_progress_bar: bool | None = None,
        output_value: str = SENTENCE,
        precision: str = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: SupportsIndex | None = None,
    ) -> Any:
        """Encodes text, as `SentenceTransformer.encode` does.

        Args:
            sentences: one text, or a sequence of texts; an item may also be a pair of texts, which the
                tokenizer joins into one sequence.
            prompt_name: which of `prompts` to put in front of each text.
            prompt: the text to put in front of each text; wins over `prompt_name`.
            batch_size: texts per run of the graph.
            show_progress_bar: a progress bar on stderr; None shows one when the `stcompile` logger is at
                INFO or below.
            output_value: `sentence_embedding`, or `token_embeddings` when the artifact was exported with them.
            precision: `float32`, `int8`, `uint8`, `binary` or `ubinary`, see `postprocess.quantize`.
            normalize_embeddings: scale each vector to length 1 (after `truncate_dim`).
            truncate_dim: keep only the first so many dimensions; None takes the model's default.

        Returns:
            float32 `(n, dim)`, for a single text `(dim,)`, for no text `(0, dim)`; int8 or uint8 for the other
            precisions. For `token_embeddings` a list of float32 `(tokens, hidden)`, trailing padding removed.

        Raises:
            InputError: something other than text, an unknown prompt, precision or output, a bad number.
        """
        single = isinstance(sentences, str)
        texts = [sentences] if isinstance(sentences, str) else _checked_texts(sentences)
        if self._manifest.text.chat is not None and any(not isinstance(text, str) for text in texts):
            raise InputError("this model puts every text in a chat template and cannot take pairs of texts")
        prompt = self._resolve_prompt(prompt_name, prompt)
        size = _at_least_one("batch_size", batch_size)
        keep = self.truncate_dim if truncate_dim is None else _at_least_one("truncate_dim", truncate_dim)
        if precision not in postprocess.PRECISIONS:
            raise InputError(f"unknown precision {precision!r}: choose one of {', '.join(postprocess.PRECISIONS)}")
        self._check_output(output_value)
        batches = self._batches(texts, prompt, size, show_progress_bar)
        if output_value == TOKENS:
            tokens = self._token_rows(len(texts), batches)
            return tokens[0] if single else tokens
        embeddings = np.zeros((len(texts), self._manifest.dim), dtype=np.float32)[:, :keep]
        for rows, feeds in batches:
            embeddings[rows] = self._engine.run(feeds, (SENTENCE,))[0][:, :keep]
        if normalize_embeddings:
            embeddings = postprocess.normalize(embeddings)
        result = postprocess.quantize(np.ascontiguousarray(embeddings), precision)
        return result[0] if single else result

    def encode_query(self, sentences: str | Sequence[str], **options: Any) -> Any:
        """`encode` with the prompt named `query`, if the model has one; takes the options of `encode`.

        Raises:
            InputError: as `encode`.
        """
        return self._encode_as(_QUERY_NAMES, sentences, options)

    def encode_document(self, sentences: str | Sequence[str], **options: Any) -> Any:
        """`encode` with the first prompt of `document`, `passage`, `corpus` that the model has.

        Raises:
            InputError: as `encode`.
        """
        return self._encode_as(_DOCUMENT_NAMES, sentences, options)

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

    def _encode_as(self, names: tuple[str, ...], sentences: str | Sequence[str], options: dict[str, Any]) -> Any:
        if options.get("prompt") is None and options.get("prompt_name") is None:
            found = next((name for name in names if name in self._manifest.prompts), None)
            # The default prompt belongs to plain `encode`; an empty prompt keeps it out.
            options = {**options, **({"prompt": ""} if found is None else {"prompt_name": found})}
        return self.encode(sentences, **options)

    def _resolve_prompt(self, prompt_name: str | None, prompt: str | None) -> str | None:
        if prompt is not None:
            if not isinstance(prompt, str):
                raise InputError(f"prompt must be text, got {type(prompt).__name__}")
            return prompt
        name = prompt_name if prompt_name is not None else self.default_prompt_name
        if name is None:
            return None
        if name not in self._manifest.prompts:
            known = ", ".join(map(repr, self._manifest.prompts)) or "none"
            raise InputError(f"unknown prompt {name!r}: this model has {known}; pass prompt= for a text of your own")
        return self._manifest.prompts[name]

    def _check_output(self, output_value: str) -> None:
        if output_value not in (SENTENCE, TOKENS):
            raise InputError(f"unknown output_value {output_value!r}: choose {SENTENCE} or {TOKENS}")
        if output_value not in self._outputs:
            raise InputError(f"this artifact has no {output_value}: export it with --outputs {SENTENCE},{output_value}")

    def _batches(
        self, texts: Sequence[Text], prompt: str | None, batch_size: int, show_progress_bar: bool | None
    ) -> Iterator[tuple[list[int], dict[str, NDArray[np.int64]]]]:
        with _progress(len(texts), show_progress_bar) as bar:
            for window in batching.windows(len(texts)):
                try:
                    tokenized = self._text.tokenize(texts[window.start : window.stop], prompt)
                except TypeError as error:  # what tokenizers says to anything that is not valid Unicode
                    raise InputError(_not_unicode(texts)) from error
                for batch in batching.by_length([len(row) for row in tokenized], batch_size):
                    feeds = self._text.collate([tokenized[index] for index in batch], prompt)
                    yield [window.start + index for index in batch], feeds
                    bar.update(len(batch))

    def _token_rows(
        self, count: int, batches: Iterator[tuple[list[int], dict[str, NDArray[np.int64]]]]
    ) -> list[NDArray[np.float32]]:
        found: dict[int, NDArray[np.float32]] = {}
        for rows, feeds in batches:
            hidden = self._engine.run(feeds, (TOKENS,))[0]
            mask = feeds["attention_mask"]
            # Trailing padding only: sentence-transformers leaves the padding of left-padded rows in place.
            ends = np.maximum(mask.shape[1] - np.argmax(mask[:, ::-1], axis=1), 1)
            ends[~mask.any(axis=1)] = 1
            found.update((row, hidden[index, : ends[index]].copy()) for index, row in enumerate(rows))
        return [found[index] for index in range(count)]


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


def _checked_texts(sentences: Sequence[Any]) -> list[Text]:
    if not hasattr(sentences, "__iter__") or isinstance(sentences, (bytes, dict)):
        raise InputError(f"encode takes a text or a list of texts, got {type(sentences).__name__}")
    texts: list[Text] = []
    for index, item in enumerate(sentences):
        if isinstance(item, str):
            texts.append(item)
        elif isinstance(item, (list, tuple)) and len(item) == 2 and all(isinstance(part, str) for part in item):
            texts.append((item[0], item[1]))
        else:
            raise InputError(
                f"item {index} is {type(item).__name__}, not text: encode takes strings (or pairs of strings); "
                "drop or convert it"
            )
    return texts


def _not_unicode(texts: Sequence[Text]) -> str:
    for index, text in enumerate(texts):
        if any("\ud800" <= char <= "\udfff" for part in ([text] if isinstance(text, str) else text) for char in part):
            return f"item {index} holds half of a surrogate pair, which is no text: decode it as UTF-8 first"
    return "the prompt holds half of a surrogate pair, which is no text: decode it as UTF-8 first"


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
