"""What a loaded artifact is, whatever it makes of text: opened, shared between threads, pickled, forked and closed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Self

from stcompile.artifact import Artifact, open_artifact
from stcompile.artifact.manifest import ENCODER, HYBRID, MULTI_VECTOR, RERANKER, SPARSE
from stcompile.artifact.space import check_space
from stcompile.errors import ArtifactError, StcompileError
from stcompile.runtime.arguments import check_threads
from stcompile.runtime.cpus import available_cpus
from stcompile.runtime.device import CPU, Device
from stcompile.runtime.hub import located
from stcompile.runtime.opened import Opened, Origin, Routes
from stcompile.runtime.route import Counted

# The class of each kind of artifact, and what one asks of it.
CLASSES = {
    ENCODER: ("Encoder", "encode"),
    RERANKER: ("Reranker", "predict or rank"),
    SPARSE: ("SparseEncoder", "encode_query and encode_document"),
    MULTI_VECTOR: ("MultiVectorEncoder", "encode_query and encode_document"),
    HYBRID: ("HybridEncoder", "encode and encode_hybrid"),
}


class Loaded:
    """An artifact on a device. It may be used from several threads at once.

    It may be pickled: by its folder and options, and opened again where it is unpickled. A forked child opens the
    folder again when it first needs it. As a context it is closed at the end.

    Args:
        artifact: an opened artifact of the class's kind.
        device, threads, cuda_graphs, check_integrity: as of `stcompile.load`.

    Attributes:
        artifact: what it was made from.
        device: where it computes.
        threads: threads that it computes on.

    Raises:
        ArtifactError, ProviderError, MissingExtraError: as `stcompile.load`; also for an artifact of another kind.
    """

    kind: str

    def __init__(
        self,
        artifact: Artifact,
        *,
        device: str = CPU,
        threads: int | None = None,
        cuda_graphs: bool = False,
        check_integrity: bool = True,
    ) -> None:
        check_kind(artifact, self.kind)
        self._manifest = artifact.manifest
        self.device = Device.parse(device, graphs=cuda_graphs)
        self.threads = available_cpus() if threads is None else threads
        # What is unpickled asks anew: another machine may have more CPUs or fewer.
        self._asked = {"device": device, "threads": threads, "cuda_graphs": cuda_graphs}
        self._is_single_threaded = False
        self._origin = Origin.of(artifact.folder, check_integrity=check_integrity)
        # Absolute: the process may go to another folder before a file of it is read.
        self.artifact = dataclasses.replace(artifact, folder=self._origin.folder)
        self._opened = Opened(artifact, self._origin, self.device, self.threads)

    @classmethod
    def load(
        cls,
        artifact: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        device: str = CPU,
        threads: int | None = None,
        cuda_graphs: bool = False,
        check_integrity: bool = True,
        expect_fingerprint: str | None = None,
        self_test: bool = False,
    ) -> Self:
        """Opens an artifact that must be of this class's kind. Arguments and errors as of `stcompile.load`."""
        found = located(artifact, revision, cache_dir)
        opened = fitting_artifact(found, threads, expect_fingerprint, check_integrity=check_integrity)
        loaded = cls(opened, device=device, threads=threads, cuda_graphs=cuda_graphs, check_integrity=check_integrity)
        return loaded.tested() if self_test else loaded

    def single_threaded(self) -> Self:
        """The same for callers that bring threads of their own: every call computes on its caller's thread.

        For a pool of as many threads as `threads`; one engine serves them all, until either of the two is closed.
        """
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, _is_single_threaded=True)
        # Opened here, not in the first call.
        _ = other._routes
        return other

    def self_test(self) -> float:
        """Compares, on this machine, what it makes of a few inputs with what the reference made of them at export.

        Returns:
            the least cosine.

        Raises:
            ParityError: an input is further from the reference than the artifact was published within.
            ArtifactError: the artifact carries no such inputs: it is of schema 8 or older. Or another one is in its
                folder now.
        """
        from stcompile.runtime.self_test import check_self_test  # noqa: PLC0415 - it knows every kind of these

        self._origin.check_there()
        return check_self_test(self)

    def tested(self) -> Self:
        """Itself, once its self-test has passed; closed where it has not. Errors as of `self_test`."""
        try:
            self.self_test()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Lets go of the engine and its memory. May be called more than once; calls that began before end well."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._opened.is_closed:
            raise StcompileError(f"the {self.kind} is closed and cannot be copied or pickled: load the artifact again")
        return _opened_again, (type(self), self._origin, self._asked, self._is_single_threaded)

    def __repr__(self) -> str:
        state = ", closed" if self._opened.is_closed else ""
        return (
            f"{type(self).__name__}({self.artifact.name!r}, target={self._manifest.target!r}, "
            f"{self._width}, device={str(self.device)!r}, threads={self.threads}{state})"
        )

    @property
    def _width(self) -> str:
        """How wide what it makes is, for whoever prints it."""
        raise NotImplementedError

    @property
    def _routes(self) -> Routes:
        return self._opened.routes(single_threaded=self._is_single_threaded)

    @property
    def fingerprint(self) -> str | None:
        """Which vectors compare with its own: those of artifacts of the same fingerprint; None before schema 9.

        Six parts with dots between them: of the weights, of the modules behind the network, of how texts become tokens,
        of the prompts, the width of a vector, the precision. See docs/artifact-format.md.
        """
        space = self._manifest.space
        return None if space is None else space.fingerprint

    @property
    def kernels(self) -> str:
        """What computes the encoder layers that are operators of the package's own.

        The CPU generation whose kernels do, e.g. `avx512_bf16`; `body` where there is no kernel for this CPU or device
        and standard operators do; empty where the artifact has no such operators.
        """
        return next((route.kernels for route in self._routes.all if route.kernels), "")

    @property
    def counted(self) -> Counted:
        """Texts, tokens and images that were run since it was opened in this process; of equal texts of a call, one."""
        found = [route.counted for route in self._routes.all]
        return Counted(*(sum(getattr(item, name) for item in found) for name in ("texts", "tokens", "images")))

    @property
    def max_seq_length(self) -> int | None:
        """Most tokens of a text, special tokens included; longer ones are cut. None when unlimited.

        Of several routes, that of the longest.
        """
        return self._manifest.max_seq_length

    @property
    def prompts(self) -> dict[str, str]:
        """Prompt name to the text that is put in front."""
        return dict(self._manifest.prompts)

    @property
    def default_prompt_name(self) -> str | None:
        """The prompt that is used when none is asked for."""
        return self._manifest.default_prompt_name


def fitting_artifact(
    folder: Path, threads: int | None, expect_fingerprint: str | None, *, check_integrity: bool
) -> Artifact:
    """An opened artifact, of the fingerprint that is expected. Arguments and errors as of `stcompile.load`."""
    check_threads(threads)
    artifact = open_artifact(folder, check_integrity=check_integrity)
    if expect_fingerprint is not None:
        check_space(artifact.manifest.space, expect_fingerprint, artifact.folder)
    return artifact


def check_kind(artifact: Artifact, wanted: str) -> None:
    """Whether an artifact is of a kind.

    Raises:
        ArtifactError: it is of another.
    """
    found = artifact.manifest.kind
    if found != wanted:
        (name, verbs), (other, _) = CLASSES[found], CLASSES[wanted]
        raise ArtifactError(
            f"{artifact.folder} is {ARTICLES[found]} {found}, not {ARTICLES[wanted]} {wanted}: stcompile.load gives "
            f"{ARTICLES[found]} {name} for it, which has {verbs}, and {other} cannot open it"
        )


ARTICLES = {ENCODER: "an", RERANKER: "a", SPARSE: "a", MULTI_VECTOR: "a", HYBRID: "a"}


def _opened_again(kind: type[Loaded], origin: Origin, asked: dict[str, Any], is_single_threaded: bool) -> Loaded:
    """What was pickled."""
    loaded = kind(origin.open(), **asked, check_integrity=origin.check_integrity)
    return loaded.single_threaded() if is_single_threaded else loaded
