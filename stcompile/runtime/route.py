"""One graph of an artifact, ready to run: its text front end and its engine; and which one a task takes."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, groupby, islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact.manifest import NO_PADDING, SENTENCE, SPARSE, TOKENS, GraphSpec, Manifest, RoutingSpec, TextSpec
from stcompile.errors import ArtifactError, InputError, StcompileError, UnavailableError, one_line
from stcompile.runtime import batching
from stcompile.runtime.batching import Limits
from stcompile.runtime.device import CUDA, Device
from stcompile.runtime.engines import Engine, open_engine
from stcompile.runtime.forks import engine_call, process
from stcompile.runtime.text.base import Feeds, Row, Spelled, Text, TextFrontEnd, width_of
from stcompile.runtime.text.static import StaticText
from stcompile.runtime.text.transformer import TransformerText
from stcompile.runtime.text.words import BowText, WordsText
from stcompile.runtime.workers import ahead, in_parallel

if TYPE_CHECKING:
    from typing import Self

    from tokenizers import Tokenizer

Job = TypeVar("Job")

# TextSpec.kind to the front end that reads it.
FRONT_ENDS: dict[str, Callable[[Path, TextSpec, Sequence[str]], TextFrontEnd]] = {
    "transformer": TransformerText,
    "static": StaticText,
    "words": WordsText,
    "bow": BowText,
}

_INPUTS = frozenset(("input_ids", "attention_mask", "token_type_ids", "prompt_length", "offsets"))

# Positions of a run where the artifact names none: small batches, whose activations stay in the cache, beat large ones.
# Where texts lie behind each other, adding up the rows of a table costs texts times tokens, whatever batch_size is.
TOKEN_BUDGET = 512

# A GPU is filled by large batches alone. Not measured: as many positions as 64 texts of 256 tokens take.
GPU_TOKEN_BUDGET = 16_384

# A GPU's matrix units take eight numbers at a time, and memory is kept for each length there is. Packed graphs take it
# too, since a bias of positions is read in eights.
GPU_LENGTH_MULTIPLE = 8

# Numbers of the dense rows of one run of a sparse encoder: 16 MB.
SPARSE_NUMBERS = 1 << 22

_LOGGER = logging.getLogger("stcompile")

# Batches a worker that make it worth to open a second engine for them.
_MANY = 4

# Positions of a row above which all threads work on one batch: side by side they would be no faster, and would take
# their memory, and that of a second engine's weights, at once.
_FILLS_THREADS = 2048


@dataclass
class Counted:
    """What was run so far.

    Attributes:
        texts: of equal ones in a call, one.
        tokens: of these, padding left out.
        images: of equal ones in a call, one.
    """

    texts: int = 0
    tokens: int = 0
    images: int = 0


# Where the tokens of each text are written down, while somebody asks for them.
_written_down: ContextVar[dict[Text, int] | None] = ContextVar("tokens of each text", default=None)


@contextmanager
def tokens_of_each() -> Iterator[dict[Text, int]]:
    """Tokens of each text, or pair, that this thread has run in the meantime: what the graph computed of it."""
    found: dict[Text, int] = {}
    token = _written_down.set(found)
    try:
        yield found
    finally:
        _written_down.reset(token)


class _SharedEngine:
    """An engine of as many runs at once as there are threads, opened when it is first needed.

    Args:
        opened: opens it.
        first: the engine that there is already.
        is_there: whether the artifact's folder holds what it did when `first` was opened.
    """

    def __init__(self, opened: Callable[[], Engine], first: Engine, is_there: Callable[[], bool]) -> None:
        self._open = opened
        self._first = first
        self._is_there = is_there
        self._opening = Lock()
        self._engine: Engine | None = None

    def engine(self) -> Engine:
        """The one that there is, or a new one; the first where its files are gone, or others are in their place."""
        with self._opening:
            if self._engine is None:
                self._engine = self._another() or self._first
            return self._engine

    def _another(self) -> Engine | None:
        if self._is_there():
            try:
                with engine_call:
                    found = self._open()
            except ArtifactError:
                if self._is_there():
                    raise
            else:
                # Asked again, for it may have been replaced while it was opened.
                if self._is_there():
                    return found
        _LOGGER.warning(
            "the artifact's folder was replaced or removed after it was loaded: the engine that was loaded goes on, "
            "which computes many texts more slowly; load the artifact again for what is there now"
        )
        return None


class GraphRuns:
    """Runs of one graph on a device, one after the other or side by side; safe to use from several threads at once.

    Args:
        name: of the route.
        opened: opens its engine, for so many threads and so many runs at once.
        threads: of one run.
        workers: runs side by side, each on a thread of its own.
        is_there: whether the artifact's folder still holds what is opened here.
        beside: what runs the same graph already, whose engine is shared.
    """

    def __init__(
        self,
        name: str,
        opened: Callable[[int, int], Engine],
        threads: int,
        workers: int,
        is_there: Callable[[], bool],
        beside: GraphRuns | None = None,
    ) -> None:
        self.name = name
        self._workers = workers
        if beside is None:
            with engine_call:
                self._engine = opened(threads, 1)
            self._shared = _SharedEngine(partial(opened, workers, workers), self._engine, is_there)
        else:
            self._engine, self._shared = beside._engine, beside._shared
        # Of this route and of the same one for single threads: about right where several threads encode at once.
        self.counted = Counted()
        self._forks = process.forks

    @property
    def kernels(self) -> str:
        """What computes its encoder layers, see `Engine.kernels`."""
        return self._engine.kernels

    def infer(self, feeds: Feeds, outputs: tuple[str, ...]) -> list[NDArray[np.float32]]:
        """Some outputs of the graph for one batch."""
        if self._forks != process.forks:
            raise StcompileError("what began to encode before a fork cannot go on in the child: begin it there")
        with engine_call:
            try:
                return self._engine.run(feeds, outputs)
            except (StcompileError, MemoryError):
                raise
            except Exception as error:  # each engine's own
                raise _failed(error, self.name) from error

    def single_threaded(self) -> Self:
        """The same route for callers that bring threads of their own: each run takes one, that of its caller."""
        other = copy(self)
        if self._workers > 1:
            other._engine, other._workers = self._shared.engine(), 1
        return other

    def _side_by_side(
        self, jobs: Iterator[Job], run: Callable[[Self, Job], list[NDArray[np.float32]]], workers: int
    ) -> Iterator[tuple[Job, list[NDArray[np.float32]]]]:
        """Each job with what `run` makes of it: side by side where there are workers and enough jobs for them."""
        route = self
        if workers > 1:
            first = list(islice(jobs, _MANY * workers))
            jobs = chain(first, jobs)
            if len(first) == _MANY * workers:
                route = self.single_threaded()
            if route._engine is self._engine:
                workers = 1
        return in_parallel(jobs, partial(run, route), workers)


class OpenRoute(GraphRuns):
    """Runs one graph of texts of an artifact on a device; safe to use from several threads at once.

    A route of the same graph that was opened before, `beside`, shares its engine.

    Raises:
        ArtifactError, ProviderError, MissingExtraError: as `stcompile.load`.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        graph: GraphSpec,
        device: Device,
        threads: int,
        is_there: Callable[[], bool],
        beside: OpenRoute | None = None,
    ) -> None:
        spec = manifest.text_of(graph)
        unknown = [item.name for item in graph.inputs if item.name not in _INPUTS]
        if spec.kind not in FRONT_ENDS or unknown:
            what = f"input {unknown[0]!r}" if unknown else f"text front end {spec.kind!r}"
            raise ArtifactError(f"the artifact's {what} is unknown: pip install --upgrade stcompile")
        self.dim = manifest.dim_of(graph)
        self.outputs = tuple(output.name for output in graph.outputs)
        self.max_seq_length = spec.max_seq_length
        self._on_gpu = device.kind == CUDA
        self._is_flat = "offsets" in [item.name for item in graph.inputs]
        self._same_length_only = manifest.padding == NO_PADDING
        fills_gpu = self._on_gpu and not self._is_flat
        self._token_budget = GPU_TOKEN_BUDGET if fills_gpu else graph.token_budget or TOKEN_BUDGET
        if fills_gpu and not self._same_length_only:
            spec = replace(spec, length_multiple=math.lcm(spec.length_multiple, GPU_LENGTH_MULTIPLE))
        self._spec = spec
        self.max_active_dims = graph.max_active_dims
        self.rows, self.weights = graph.rows, graph.weights
        # What comes out of short texts is larger than all that goes in, where a vector is as long as a vocabulary.
        self._most_texts = max(1, SPARSE_NUMBERS // manifest.dim_of(graph)) if manifest.kind == SPARSE else None
        self.pads_to_multiple = spec.length_multiple > 1
        self._text = FRONT_ENDS[spec.kind](folder, spec, [item.name for item in graph.inputs])
        # A run of a flat graph is over before a second thread is told of it; a GPU computes one run at a time anyway.
        workers = 1 if self._on_gpu or self._is_flat else threads
        opened = partial(open_engine, folder, graph, manifest, device)
        super().__init__(graph.route, opened, 1 if self._is_flat else threads, workers, is_there, beside)
        self._tokenizes_on_pool = threads > 1

    @property
    def takes_pairs(self) -> bool:
        """Whether a text may be a pair of texts."""
        return self._text.takes_pairs

    @property
    def tokenizer(self) -> Tokenizer:
        """What names the tokens.

        Raises:
            ArtifactError: texts are not read by the tokenizers library.
        """
        if self._text.tokenizer is None:
            raise ArtifactError("tokens are named by a tokenizer, and this artifact has none: export the model again")
        return self._text.tokenizer

    def run(
        self, texts: Sequence[Text], prompt: str | None, batch_size: int | None, output: str
    ) -> Iterator[tuple[list[int], Feeds, NDArray[np.float32]]]:
        """One output of the graph. Arguments, errors and order as `run_all`.

        Yields:
            positions of some texts, the graph's inputs for them, and the output's rows.
        """
        for places, feeds, (found,) in self.run_all(texts, prompt, batch_size, (output,)):
            yield places, feeds, found

    def run_all(
        self, texts: Sequence[Text], prompt: str | None, batch_size: int | None, outputs: tuple[str, ...]
    ) -> Iterator[tuple[list[int], Feeds, list[NDArray[np.float32]]]]:
        """Some outputs of the graph, batch by batch, until every text had its turn.

        Few batches run one after the other, each on all threads. Many run side by side, each on a thread of its own:
        measured on two CPUs, that is 10% faster on short texts and up to a third on those of 256 tokens. Batches of
        very long ones never do.

        Args:
            texts: what to run.
            prompt: the text in front of each, or None.
            batch_size: texts of a batch; None takes the artifact's token budget. Long texts run alone on a CPU.
            outputs: names of the graph's outputs.

        Yields:
            positions of some texts, the graph's inputs for them, and the rows of each output; in no order.

        Raises:
            InputError: the tokenizer fails on a text.
        """
        for fills, batches in groupby(self.batches(texts, prompt, batch_size, outputs[0]), _fills_threads):
            for (places, feeds), found in self._run(batches, outputs, self._workers if not fills else 1):
                self.counted.texts += len(places)
                lengths = _lengths(feeds)
                self.counted.tokens += int(lengths.sum())
                written_down = _written_down.get()
                if written_down is not None:
                    written_down.update(zip((texts[place] for place in places), lengths.tolist(), strict=True))
                yield places, feeds, found

    def batches(
        self, texts: Sequence[Text], prompt: str | None, batch_size: int | None, output: str = SENTENCE
    ) -> Iterator[tuple[list[int], Feeds]]:
        """Positions of some texts, and the graph's inputs for them. Arguments and errors as `run`."""
        limits = Limits(
            self._most_texts if batch_size is None else batch_size,
            self._token_budget if batch_size is None or self._is_flat else None,
            self._alone_above(output),
        )
        windows = ((window, self._tokenized(texts, window, prompt)) for window in batching.windows(len(texts)))
        for window, rows in ahead(windows) if self._workers > 1 and len(texts) > batching.WINDOW else windows:
            for batch in self._grouped(rows, limits):
                yield [window.start + index for index in batch], self._text.collate([rows[i] for i in batch], prompt)

    def are_cut(self, texts: Sequence[Text], prompt: str | None) -> list[bool]:
        """Of each text whether some of it is cut off. Errors as `run`."""
        with _readable():
            return self._text.are_cut(texts, prompt)

    def spelled(self, texts: Sequence[str], prompt: str | None) -> list[Spelled]:
        """The tokens of each text. Errors as `run`; also where they have no spelling."""
        with _readable():
            return self._text.spelled(texts, prompt)

    def single_threaded(self) -> Self:
        other = super().single_threaded()
        other._tokenizes_on_pool = False
        return other

    def _run(
        self, batches: Iterator[tuple[list[int], Feeds]], outputs: tuple[str, ...], workers: int
    ) -> Iterator[tuple[tuple[list[int], Feeds], list[NDArray[np.float32]]]]:
        """Each batch with the rows of its outputs: side by side where there are workers and enough batches for them."""
        return self._side_by_side(batches, lambda route, batch: route.infer(batch[1], outputs), workers)

    def _alone_above(self, output: str) -> int | None:
        """Positions above which a text runs alone."""
        # Rows that are padded on the left show which texts shared a batch.
        shows_batches = output == TOKENS and self._spec.padding_side == "left" and self.rows is None
        return None if self._is_flat or self._on_gpu or shows_batches else batching.LONG

    def _tokenized(self, texts: Sequence[Text], window: range, prompt: str | None) -> list[Row]:
        with _readable():
            return self._text.tokenize(
                texts[window.start : window.stop], prompt, on_pool=self._tokenizes_on_pool and not process.forks
            )

    def _grouped(self, rows: list[Row], limits: Limits) -> Iterator[list[int]]:
        lengths = [len(row) for row in rows]
        if self._is_flat:
            return batching.by_tokens(lengths, limits)
        width = partial(width_of, spec=self._spec)
        return batching.by_length(lengths, width, limits, same_length_only=self._same_length_only)


@contextmanager
def _readable() -> Iterator[None]:
    """What a tokenizer says of a text that it cannot read, as an error of ours."""
    try:
        yield
    except StcompileError:
        raise
    except Exception as error:  # tokenizers raises bare Exception, e.g. for a word that has no id
        raise InputError(f"the model's tokenizer cannot read a text ({one_line(error)}): leave it out") from error


def _failed(error: Exception, route: str) -> StcompileError:
    """What an engine raised in the middle of a run, as an error of ours."""
    reason, where = one_line(error), f" of route {route}" if route else ""
    if "alloc" in reason.lower():
        return UnavailableError(
            f"the engine has not the memory that a run takes ({reason}): pass a smaller batch_size, cut texts, or give "
            "the process more"
        )
    return ArtifactError(
        f"the engine cannot compute the graph{where} ({reason}): the artifact's files do not fit each other, export "
        "the model again"
    )


def _lengths(feeds: Feeds) -> NDArray[np.int64]:
    """Tokens of each text of a batch, `(batch,)`, padding left out."""
    if "offsets" in feeds:
        return np.diff(feeds["offsets"], append=feeds["input_ids"].size)
    found: NDArray[np.int64] = np.count_nonzero(feeds["attention_mask"], axis=1)
    return found


def _fills_threads(batch: tuple[list[int], Feeds]) -> bool:
    """Whether a batch has work for every thread in each of its rows."""
    mask = batch[1].get("attention_mask")
    return mask is not None and mask.shape[1] > _FILLS_THREADS


def route_of(routing: RoutingSpec | None, task: str | None) -> str:
    """The route a task takes (module-stack spec, section 11.2).

    Raises:
        InputError: it has none, it is no text, or a task must be named and was not.
    """
    if routing is None:
        return ""
    if task is None:
        route = routing.default
    else:
        # Anything else than text could not even be looked up.
        route = routing.tasks.get(task, routing.otherwise) if isinstance(task, str) else None
    if route is None:
        known = ", ".join(map(repr, routing.tasks))
        problem = "this model needs a task" if task is None else f"no route for task {task!r}"
        raise InputError(f"{problem}: use encode_query or encode_document, or pass task= one of {known}")
    return route
