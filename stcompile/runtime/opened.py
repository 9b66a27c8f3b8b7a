"""The routes of an artifact, opened once in each process that uses them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from weakref import WeakSet

from stcompile.artifact import Artifact, open_artifact
from stcompile.artifact.manifest import MANIFEST_NAME
from stcompile.errors import ArtifactError, ProviderError, StcompileError
from stcompile.runtime.device import CUDA, Device
from stcompile.runtime.forks import keep_forever
from stcompile.runtime.image_route import OpenImageRoute
from stcompile.runtime.route import GraphRuns, OpenRoute


class Routes(dict[str, OpenRoute]):
    """What runs each route of texts, by its name, and what runs that of images, where there is one."""

    image: OpenImageRoute | None = None

    @property
    def all(self) -> list[GraphRuns]:
        """Those of texts and that of images."""
        return [*self.values(), *([] if self.image is None else [self.image])]

    def single_threaded(self) -> Routes:
        """The same with what `GraphRuns.single_threaded` gives of each."""
        other = Routes({name: route.single_threaded() for name, route in self.items()})
        other.image = None if self.image is None else self.image.single_threaded()
        return other


@dataclass(frozen=True)
class Origin:
    """Where an artifact was opened, so that another process can open the same.

    Attributes:
        folder: absolute.
        digest: sha256 of its manifest, which has those of all its files.
        check_integrity: whether every file is compared with its sha256.
    """

    folder: Path
    digest: str
    check_integrity: bool

    @classmethod
    def of(cls, folder: Path, *, check_integrity: bool) -> Origin:
        """Of an artifact that was just opened."""
        home = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow a link that is changed for updates
        return cls(home, _digest(home), check_integrity)

    def is_there(self) -> bool:
        """Whether the folder holds the same artifact as then."""
        try:
            return _digest(self.folder) == self.digest
        except ArtifactError:
            return False

    def check_there(self) -> None:
        """Whether what is read of the folder now is what was opened.

        Raises:
            ArtifactError: the folder holds another artifact, or none.
        """
        if not self.is_there():
            raise ArtifactError(f"{self.folder} holds another artifact than when the encoder was loaded: load it again")

    def open(self) -> Artifact:
        """Opens it again.

        Raises:
            ArtifactError: as `open_artifact`, or another artifact is there now.
        """
        artifact = open_artifact(self.folder, check_integrity=self.check_integrity)
        if _digest(self.folder) != self.digest:
            raise ArtifactError(
                f"{self.folder} holds another artifact than when the encoder was loaded: load it in this process"
            )
        return artifact


class Opened:
    """The routes of an artifact. A forked child opens its own, from where it came, when it first uses them.

    What it inherited is never used and never freed: the threads of those engines are not there.

    Args:
        artifact: what is opened.
        origin: where it came from.
        device, threads: as of `stcompile.load`.
        max_tokens: texts are cut there, where the artifact lets them be longer.
        beside: of the same artifact, whose engines are shared.

    Raises:
        ArtifactError, ProviderError, MissingExtraError: as `stcompile.load`.
    """

    def __init__(
        self,
        artifact: Artifact,
        origin: Origin,
        device: Device,
        threads: int,
        max_tokens: int | None = None,
        beside: Routes | None = None,
    ) -> None:
        self.max_tokens = max_tokens
        self._origin = origin
        self._device = device
        self._threads = threads
        self._is_closed = False
        self._opening = Lock()
        self._routes: Routes | None = self._open(artifact, beside)
        self._single: Routes | None = None
        _all.add(self)

    def routes(self, *, single_threaded: bool) -> Routes:
        """Route name to what runs it; single-threaded, what `Routes.single_threaded` gives.

        Raises:
            StcompileError: it is closed.
            ArtifactError: after a fork, and the folder is not what it was.
            ProviderError: after a fork, and it was opened on a GPU.
        """
        found = self._single if single_threaded else self._routes
        return self._missing(single_threaded) if found is None else found

    def cut_at(self, artifact: Artifact, max_tokens: int | None) -> Opened:
        """The same artifact with the same engines, its texts cut there.

        Raises:
            StcompileError: it is closed.
            ArtifactError: the folder, whose tokenizer is read again, holds another artifact or none.
        """
        beside = self.routes(single_threaded=False)
        self._origin.check_there()
        return Opened(artifact, self._origin, self._device, self._threads, max_tokens, beside)

    def close(self) -> None:
        """Lets go of the engines; runs that began before end well. May be called more than once."""
        with self._opening:
            self._is_closed = True
            self._routes = self._single = None

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._is_closed

    def _missing(self, single_threaded: bool) -> Routes:
        with self._opening:
            if self._is_closed:
                raise StcompileError("the encoder is closed: load the artifact again")
            if self._routes is None:
                if self._device.kind == CUDA:
                    raise ProviderError(
                        "a GPU cannot be used in a process that was forked after it was opened: start workers with "
                        "spawn, or load the artifact in each of them"
                    )
                self._routes = self._open(self._origin.open())
            if not single_threaded:
                return self._routes
            if self._single is None:
                self._single = self._routes.single_threaded()
            return self._single

    def _open(self, artifact: Artifact, like: Routes | None = None) -> Routes:
        manifest, origin = artifact.manifest.cut_at(self.max_tokens), self._origin
        found = Routes()
        opened: dict[str, OpenRoute] = {}
        for graph in manifest.graphs:
            beside = opened.get(graph.file) if like is None else like[graph.route]
            route = OpenRoute(origin.folder, manifest, graph, self._device, self._threads, origin.is_there, beside)
            found[graph.route] = opened[graph.file] = route
        if like is not None:
            found.image = like.image
        elif manifest.image is not None:
            found.image = OpenImageRoute(
                origin.folder, manifest, manifest.image, self._device, self._threads, origin.is_there
            )
        return found

    def _after_fork(self) -> None:
        keep_forever((self._routes, self._single))
        self._routes = self._single = None
        # Whoever held it is not here.
        self._opening = Lock()


_all: WeakSet[Opened] = WeakSet()


def _after_fork() -> None:
    for opened in _all:
        opened._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _digest(folder: Path) -> str:
    try:
        return hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()
    except OSError as error:
        raise ArtifactError(f"{folder / MANIFEST_NAME} cannot be read: {error}") from error
