"""`Encoder`: texts and images to embeddings, with the meaning and defaults of `SentenceTransformer.encode`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stcompile.artifact.manifest import ENCODER, SENTENCE, TOKENS
from stcompile.errors import InputError, one_line
from stcompile.runtime import batching, postprocess
from stcompile.runtime.distinct import Distinct
from stcompile.runtime.embedding import Embedding
from stcompile.runtime.image_route import OpenImageRoute
from stcompile.runtime.inputs import Reading, Sentences, check_stream, listed
from stcompile.runtime.options import DOCUMENT, QUERY, EncodeOptions
from stcompile.runtime.pictures import Picture
from stcompile.runtime.progress import progress
from stcompile.runtime.route import OpenRoute
from stcompile.runtime.signatures import encode_iter_method, encode_method
from stcompile.runtime.waiting import Waiting

# sentence-transformers' own default.
_TOKEN_ROWS_BATCH = 32

# Inputs of a stream that are held at once where some may be images.
_IMAGES = 256

# Arrays, torch's tensors, and lists of vectors of either.
Vectors = ArrayLike | Sequence[ArrayLike]


class Encoder(Embedding):
    """Turns texts into embeddings, and images where the model has a tower for them.

    One encoder may be used from several threads at once.

    Made by `stcompile.load`, or `Encoder.load`, which opens nothing else. It may be pickled: by its folder and options,
    and opened again where it is unpickled. A forked child opens the folder again when it first encodes. As a context it
    is closed at the end.

    Attributes:
        artifact: what it was made from.
        device: where it computes.
        threads: threads that it computes on.
    """

    kind = ENCODER

    @property
    def truncate_dim(self) -> int | None:
        """How many dimensions the model keeps by default; None keeps all."""
        return self._manifest.truncate_dim

    @encode_method
    def encode(self, inputs: Sentences, options: EncodeOptions) -> object:
        """Encodes texts and images, as `SentenceTransformer.encode` does; both may be in one call, in any order.

        Args:
            inputs: one text, or any number of texts in an order: a list, an array `(n,)`, a column of pandas, polars
                or pyarrow. An item may also be a pair of texts, which the tokenizer joins into one sequence (an array
                `(n, 2)` for all of them), `{"text": text}`, or `{task: text}` where the model has a Router. Where the
                artifact has an image tower (`modalities`), an item may be an image: of Pillow, an array or tensor
                `(height, width, channels)` or `(channels, height, width)` of 0 to 255 or of 0 to 1, the path of a file,
                or `{"image": one of these}`. May be passed as `sentences`, its name before sentence-transformers 6.
            prompt_name: which of `prompts` to put in front of each text.
            prompt: the text to put in front of each text; wins over `prompt_name`. Nothing to an image.
            batch_size: texts, or images, per run of the graph; None makes batches of the artifact's token budget, which
                is faster and keeps memory flat however many texts there are. Token embeddings, whose rows show the
                padding of a batch, come from batches of 32 then, as in sentence-transformers.
            show_progress_bar: a progress bar on stderr; None shows one when the `stcompile` logger is at
                INFO or below.
            output_value: `sentence_embedding`, or `token_embeddings` when the artifact was exported with them.
            precision: `float32`, `int8`, `uint8`, `binary` or `ubinary`, see `postprocess`; None is `float32`.
            convert_to_numpy: False gives a list of vectors instead of one array; they are numpy's all the same.
            convert_to_tensor: a torch tensor in main memory; needs torch, which is imported for this alone.
            device: where the encoder computes anyway, or None.
            normalize_embeddings: scale each vector to length 1 (after `truncate_dim`).
            truncate_dim: keep only the first so many dimensions; None takes the model's default.
            pool: None; an encoder computes on the threads of one process.
            chunk_size: None, as `pool`.
            task: which graph of a Router, or of a model that is called with tasks, to take, e.g. `query`; None takes
                its default. Means nothing to any other model.

        Returns:
            float32 `(n, dim)`, for a single text `(dim,)`, for no text `(0, dim)`; int8 or uint8 for the other
            precisions. For `token_embeddings` a list of float32 `(tokens, hidden)`, trailing padding removed.

        Raises:
            InputError: something other than text, an image that cannot be read, an unknown prompt, precision or output,
                a bad number, another device.
            ProviderError: there is no device of that name.
            MissingExtraError: tensors, a progress bar or images are asked for, and torch, tqdm or Pillow is not
                installed.
        """
        return self._encoded(inputs, options)

    @encode_iter_method
    def encode_iter(self, inputs: Iterable[Any], options: EncodeOptions) -> Iterator[Any]:
        """Encodes a stream: what `encode` would give for each text, one by one, in order.

        Holds some thousand texts at a time, however many there are: for inputs larger than memory.

        Args:
            inputs: anything to go through once: a file, a generator, a database cursor.
            prompt_name, prompt, batch_size, show_progress_bar, output_value, precision, convert_to_numpy,
                convert_to_tensor, device, normalize_embeddings, truncate_dim, pool, chunk_size, task: as of `encode`.

        Returns:
            an iterator over the vector of each text, `(dim,)`, as a tensor where those are asked for; for
            `token_embeddings` its `(tokens, hidden)`. Where going through `inputs` raises, or one of them is no text,
            the vectors of all before it come first, then the error.

        Raises:
            InputError, ProviderError, MissingExtraError: as `encode`, options at once and texts when they are reached;
                at once too if there is nothing to go through, or for int8 and uint8 precision, whose ranges are taken
                from all texts of a call.
        """
        if options.precision in ("int8", "uint8"):
            raise InputError(
                f"precision={options.precision!r} takes its ranges from all texts of a call, which a stream never "
                "holds: stream float32 and quantize afterwards, or ask for binary or ubinary"
            )
        options = self._settled(options)
        check_stream(inputs)
        reading = self._reading(options.task)
        if self._manifest.routing is None or options.task is not None:
            _check_makes(options.output_value, reading.route)

        def results(given: list[Any], bar: Any) -> Iterable[Any]:
            made: Iterable[Any] = options.shaped(_answers(self._parts(given, reading), len(given), options, bar), False)
            return made

        # Images take their memory from when they are there, texts next to none.
        size = batching.WINDOW if self._manifest.image is None else _IMAGES
        return self._results(iter(inputs), reading, size, options.show_progress_bar, results)

    @encode_method
    def encode_query(self, inputs: Sentences, options: EncodeOptions) -> object:
        """`encode` for the task `query`, with the prompt of that name; all else as of `encode`."""
        return self._encoded(inputs, options, QUERY)

    @encode_method
    def encode_document(self, inputs: Sentences, options: EncodeOptions) -> object:
        """`encode` for the task `document`, with the first prompt of `document`, `passage`, `corpus` that there is."""
        return self._encoded(inputs, options, DOCUMENT)

    def similarity(self, embeddings1: Vectors, embeddings2: Vectors) -> NDArray[np.float32]:
        """Similarity of every vector of one set to every vector of another, by the model's own measure.

        Args:
            embeddings1: `(n, dim)` or `(dim,)`: an array, a torch tensor, or a list of vectors of either.
            embeddings2: `(m, dim)` or `(dim,)`.

        Returns:
            float32 `(n, m)`; larger is more alike, distances are negative.

        Raises:
            InputError: neither vectors nor matrices, of different widths, or of another precision than float32.
        """
        left, right = _alike("similarity", embeddings1, embeddings2)
        return postprocess.similarity(self.similarity_fn_name, np.atleast_2d(left), np.atleast_2d(right))

    def similarity_pairwise(self, embeddings1: Vectors, embeddings2: Vectors) -> NDArray[np.float32]:
        """Similarity of each vector to the one at its place in another set, by the model's own measure.

        Args:
            embeddings1: `(n, dim)`, or `(dim,)` to be compared with all of the other: as of `similarity`.
            embeddings2: `(n, dim)` or `(dim,)`.

        Returns:
            float32 `(n,)`, of two single vectors `()`; larger is more alike, distances are negative.

        Raises:
            InputError: as `similarity`, or one has more vectors than the other.
        """
        left, right = _alike("similarity_pairwise", embeddings1, embeddings2)
        if left.ndim == right.ndim == 2 and len(left) != len(right):
            raise InputError(f"similarity_pairwise takes equally many vectors, got {len(left)} and {len(right)}")
        return postprocess.similarity_pairwise(self.similarity_fn_name, left, right)

    def _settled(self, options: EncodeOptions, role: str | None = None) -> EncodeOptions:
        return options.settled(self._manifest, self.device, role)

    def _encoded(self, inputs: Any, options: EncodeOptions, role: str | None = None) -> Any:
        options = self._settled(options, role)
        items, single = listed(inputs)
        reading = self._reading(options.task)
        given = [reading.input(item, place) for place, item in enumerate(items)]
        with progress(len(given), options.show_progress_bar) as bar:
            return options.shaped(_answers(self._parts(given, reading), len(given), options, bar), single)

    def _parts(self, given: list[Any], reading: Reading[OpenRoute]) -> list[_Part]:
        """The texts of a call or a window, and its images, each with what runs them."""
        image = self._routes.image
        places = [place for place, item in enumerate(given) if isinstance(item, Picture)]
        if image is None or not places:
            return [_Part(reading.route, given, None)]
        pictures = _Part(image, [given[place] for place in places], places)
        others = [place for place, item in enumerate(given) if not isinstance(item, Picture)]
        return [pictures, *([_Part(reading.route, [given[place] for place in others], others)] if others else [])]


class _Part(NamedTuple):
    """Inputs of one route, and their places in the call; None where they are all of it."""

    route: OpenRoute | OpenImageRoute
    inputs: list[Any]
    places: list[int] | None


def _check_makes(output_value: str, route: OpenRoute | OpenImageRoute) -> None:
    if output_value not in route.outputs:
        raise InputError(f"this artifact has no {output_value}: export it with --outputs {SENTENCE},{output_value}")


def _answers(parts: list[_Part], count: int, options: EncodeOptions, bar: Any) -> Any:
    """The result for each of so many inputs: an array of vectors, or a list of arrays of token embeddings."""
    for part in parts:
        _check_makes(options.output_value, part.route)
    if options.output_value == TOKENS:
        return _token_rows(parts[0].route, parts[0].inputs, options, bar)
    return _embeddings(parts, count, options, bar)


def _embeddings(parts: list[_Part], count: int, options: EncodeOptions, bar: Any) -> NDArray[Any]:
    """`(n, dim)` in the precision asked for, see `postprocess`; nothing as large is held beside it."""
    precision, keep = options.precision or "float32", options.truncate_dim
    # Texts and images have vectors of one width.
    dim = min(keep or parts[0].route.dim, parts[0].route.dim)
    postprocess.check_count(count, precision)
    result = postprocess.empty(count, dim, precision)
    later: list[Distinct] = []
    with Waiting(dim) as waiting:
        for route, inputs, places in parts:
            distinct = Distinct.of(inputs, places)
            for rows, _, vectors in route.run(distinct.texts, options.prompt, options.batch_size, SENTENCE):
                kept = vectors[:, :keep]
                kept = postprocess.normalize(kept) if options.normalize_embeddings else kept
                if precision in postprocess.ROW_BY_ROW:
                    distinct.write(rows, postprocess.by_row(kept, precision), result)
                else:
                    waiting.add(rows, kept)
                    later.append(distinct)
                bar.update(distinct.count(rows))
        for distinct, (rows, kept) in zip(later, waiting.batches(), strict=True):
            distinct.write(rows, postprocess.quantize(kept, precision, waiting.ranges), result)
    return result


def _token_rows(
    route: OpenRoute | OpenImageRoute, texts: list[Any], options: EncodeOptions, bar: Any
) -> list[NDArray[np.float32]]:
    """float32 `(tokens, hidden)` of each text."""
    found: dict[int, NDArray[np.float32]] = {}
    # What is padded on the left stays in the rows: here it shows which texts shared a batch.
    size = _TOKEN_ROWS_BATCH if options.batch_size is None else options.batch_size
    for rows, feeds, hidden in route.run(texts, options.prompt, size, TOKENS):
        pieces = postprocess.token_rows(hidden, feeds["attention_mask"], pads_to_multiple=route.pads_to_multiple)
        found.update(zip(rows, pieces, strict=True))
        bar.update(len(rows))
    return [found[index] for index in range(len(texts))]


def _alike(name: str, first: Vectors, second: Vectors) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    left, right = _vectors(name, first), _vectors(name, second)
    if left.shape[-1] != right.shape[-1]:
        raise InputError(f"{name} takes vectors of one width, got {left.shape[-1]} and {right.shape[-1]}")
    return left, right


def _vectors(name: str, vectors: Vectors) -> NDArray[np.float32]:
    try:
        # A list of torch's tensors would be read number by number.
        rows = [np.asarray(row) for row in vectors] if isinstance(vectors, (list, tuple)) else vectors
        found = np.asarray(rows)
        array = found.astype(np.float32, copy=False)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{name} takes vectors (dim,) or matrices (n, dim) that numpy can read ({one_line(error, 200)})"
        ) from error
    if found.dtype in (np.int8, np.uint8):
        raise InputError(
            f"{name} takes float32 vectors, got {found.dtype}, whose numbers are packed bits or steps between ranges: "
            'encode with precision="float32", or compare bits by their Hamming distance in an index that does'
        )
    if array.ndim not in (1, 2):
        raise InputError(f"{name} takes vectors (dim,) or matrices (n, dim), got shape {array.shape}")
    return array
