"""What encoders of dense, sparse and several vectors a text share: tasks, and the route of a text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Protocol

from numpy.typing import NDArray

from stcompile.artifact.manifest import ANSWERS, IMAGE, TEXT, Manifest
from stcompile.runtime import batching
from stcompile.runtime.device import Device
from stcompile.runtime.distinct import Distinct
from stcompile.runtime.inputs import Reading, check_stream, listed, windows
from stcompile.runtime.loaded import Loaded
from stcompile.runtime.progress import progress
from stcompile.runtime.route import OpenRoute, route_of
from stcompile.runtime.text.base import Feeds, Text


class Embedding(Loaded):
    """A loaded artifact that makes a vector of a text."""

    @property
    def _width(self) -> str:
        return f"dim={self.get_embedding_dimension()}"

    @property
    def tasks(self) -> tuple[str, ...]:
        """What `task` may be; empty where the model has one route for everything."""
        return () if self._manifest.routing is None else tuple(self._manifest.routing.tasks)

    @property
    def modalities(self) -> tuple[str, ...]:
        """What may be encoded: `text`, and `image` where the artifact has an image tower."""
        return (TEXT,) if self._manifest.image is None else (TEXT, IMAGE)

    @property
    def similarity_fn_name(self) -> str:
        """`cosine`, `dot`, `euclidean` or `manhattan`; of a multi-vector encoder `maxsim` or `meanmaxsim`."""
        return self._manifest.similarity

    def get_embedding_dimension(self) -> int:
        """Width of what `encode` returns by default; of several routes, that of the default one."""
        kept, width = self._manifest.truncate_dim, self._manifest.dim
        return width if kept is None else min(kept, width)

    get_sentence_embedding_dimension = get_embedding_dimension

    def _reading(self, task: str | None) -> Reading[OpenRoute]:
        routing = self._manifest.routing
        images = self._manifest.image is not None
        return Reading(routing is not None, task, lambda task: self._routes[route_of(routing, task)], images=images)

    @staticmethod
    def _results(
        items: Iterator[Any],
        reading: Reading[OpenRoute],
        size: int,
        show: bool | None,
        results: Callable[[list[Any], Any], Iterable[Any]],
    ) -> Iterator[Any]:
        """What a stream gives, for each input.

        Args:
            items: what is streamed.
            reading: of them.
            size: of inputs that are in hand at once.
            show: a progress bar, as `show_progress_bar`.
            results: of so many inputs, read; gets the bar too.

        Raises:
            whatever going through `items` raises, and InputError where one cannot be read: after the results before it.
        """
        with progress(None, show) as bar:
            for inputs, error in windows(items, reading, size):
                if inputs:
                    yield from results(inputs, bar)
                if error is not None:
                    raise error


class Options(Protocol):
    """What one call asks for, as far as all `encode` methods do."""

    @property
    def prompt(self) -> str | None: ...

    @property
    def batch_size(self) -> int | None: ...

    @property
    def show_progress_bar(self) -> bool | None: ...

    @property
    def task(self) -> str | None: ...

    def settled(self, manifest: Manifest, here: Device, role: str | None) -> Any:
        """The same with every default filled in that does not depend on the route."""


class OneByOne(Embedding):
    """One whose results are an object a text, not rows of one array.

    Attributes:
        window: texts whose results a stream holds at once.
    """

    window: ClassVar[int] = batching.WINDOW

    def _made(self, made: NDArray[Any], feeds: Feeds, route: OpenRoute, options: Any) -> Sequence[Any]:
        """The results of a batch, of the graph's first output."""
        raise NotImplementedError

    def _shaped(self, found: list[Any], single: bool, route: OpenRoute, options: Any) -> Any:
        """What the caller gets of the results of all texts."""
        raise NotImplementedError

    def _encoded(self, inputs: Any, options: Options, role: str | None) -> Any:
        options = options.settled(self._manifest, self.device, role)
        items, single = listed(inputs)
        reading = self._reading(options.task)
        texts = [reading.text(item, place) for place, item in enumerate(items)]
        with progress(len(texts), options.show_progress_bar) as bar:
            found = self._found(reading.route, texts, options, bar)
        return self._shaped(found, single, reading.route, options)

    def _streamed(self, inputs: Iterable[Any], options: Options) -> Iterator[Any]:
        options = options.settled(self._manifest, self.device, None)
        check_stream(inputs)
        reading = self._reading(options.task)

        def results(texts: list[Text], bar: Any) -> Iterator[Any]:
            found = self._found(reading.route, texts, options, bar)
            return (self._shaped([result], True, reading.route, options) for result in found)

        return self._results(iter(inputs), reading, self.window, options.show_progress_bar, results)

    def _found(self, route: OpenRoute, texts: list[Text], options: Options, bar: Any) -> list[Any]:
        distinct = Distinct.of(texts)
        found: dict[int, Any] = {}
        for batch, feeds, made in route.run(distinct.texts, options.prompt, options.batch_size, ANSWERS[self.kind]):
            for row, result in zip(batch, self._made(made, feeds, route, options), strict=True):
                found.update(distinct.each(row, result))
            bar.update(distinct.count(batch))
        return [found[place] for place in range(len(texts))]
