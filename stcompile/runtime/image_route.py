"""The graph of an artifact that reads images, ready to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact.manifest import PIXELS, ImageRoute, Manifest
from stcompile.runtime.device import CUDA, Device
from stcompile.runtime.engines import open_engine
from stcompile.runtime.pictures import Picture
from stcompile.runtime.pixels import PixelMaker
from stcompile.runtime.route import GraphRuns
from stcompile.runtime.text.base import Feeds

# Images of a run on a GPU, which large batches alone fill. Not measured.
_GPU_BATCH = 64


class OpenImageRoute(GraphRuns):
    """Runs the graph of images of an artifact on a device; safe to use from several threads at once.

    Raises:
        ArtifactError, ProviderError, MissingExtraError: as `stcompile.load`.
    """

    pads_to_multiple = False

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        image: ImageRoute,
        device: Device,
        threads: int,
        is_there: Callable[[], bool],
    ) -> None:
        graph, on_gpu = image.graph, device.kind == CUDA
        self.dim = manifest.dim_of(graph)
        self.outputs = tuple(output.name for output in graph.outputs)
        self._batch_size = _GPU_BATCH if on_gpu else image.batch_size
        self._pixels = PixelMaker(image.processing)
        opened = partial(open_engine, folder, graph, manifest, device)
        super().__init__(graph.route, opened, threads, 1 if on_gpu else threads, is_there)

    def run(
        self, pictures: Sequence[Picture], prompt: str | None, batch_size: int | None, output: str
    ) -> Iterator[tuple[list[int], Feeds, NDArray[np.float32]]]:
        """One output of the graph, batch by batch, until every image had its turn.

        Few batches run one after the other, each on all threads; many run side by side, each opened, resized and
        computed on a thread of its own. No more images are open than are being computed.

        Args:
            pictures: what to run.
            prompt: nothing to an image.
            batch_size: images of a batch; None takes the artifact's.
            output: name of the graph's output.

        Yields:
            positions of some images, nothing, and the output's rows; in no order.

        Raises:
            InputError: an image cannot be read.
            MissingExtraError: Pillow is not installed.
        """
        size = self._batch_size if batch_size is None else batch_size
        batches = (list(range(start, min(start + size, len(pictures)))) for start in range(0, len(pictures), size))

        def run(route: OpenImageRoute, places: list[int]) -> list[NDArray[np.float32]]:
            feeds: dict[str, NDArray[Any]] = {PIXELS: self._pixels.pixel_values([pictures[place] for place in places])}
            return route.infer(feeds, (output,))

        for places, (found,) in self._side_by_side(batches, run, self._workers):
            self.counted.images += len(places)
            yield places, {}, found
