"""Where a model comes from: a folder, a hub id, or a live object of sentence-transformers."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from stcompile.artifact import scratch
from stcompile.artifact.manifest import IMAGE, TEXT
from stcompile.compiler import hub
from stcompile.compiler.kinds.folder import Folder
from stcompile.compiler.kinds.network_graphs import graphs_in, networks_read_from_graphs
from stcompile.compiler.stack.describe import StackDescription, describe
from stcompile.errors import InputError, ModelFolderError, UnsupportedError, about, one_line
from stcompile.runtime.arguments import local_path

# What can be one; `.` and `..` lead to folders, and no name on the hub begins or ends in a dot or a hyphen.
_NAME = r"(?![.-])[\w.-]+(?<![.-])"
_HUB_ID = re.compile(rf"{_NAME}(/{_NAME})?", re.ASCII)

# Everything a stack can be built from; leaves out training state.
# A star also matches slashes.
_HUB_FILES = [
    *("*.json", "*.safetensors", "*.txt", "*.model", "*.spm", "*.jinja", "*pytorch_model*.bin", "*.py"),
    *("sparse_linear.pt", "colbert_linear.pt", "artifact.metadata"),
]


class SourceOptions(TypedDict, total=False):
    """What may be said of a model beside its name: the fields of `ModelSource`, as keyword arguments."""

    revision: str | None
    cache_dir: str | None
    trust_remote_code: bool
    follow_links: bool
    sparse: bool
    modalities: Sequence[str] | None
    file: str | None


def check_options(given: Iterable[str], known: Iterable[str]) -> None:
    """Whether keyword arguments are such as there are.

    Raises:
        InputError: one is not; names those that are nearest to it.
    """
    names = list(known)
    for name in given:
        if name not in names:
            nearest = difflib.get_close_matches(name, names)
            told = f"the nearest are {', '.join(nearest)}" if nearest else f"there are {', '.join(names)}"
            raise InputError(f"there is no option {name!r}: {told}")


@dataclass(frozen=True)
class ModelSource:
    """A model as its user names it.

    Attributes:
        model: a folder, a hub id (without a slash one of sentence-transformers), or an object with the
            `save_pretrained` of a SentenceTransformer. Some models are told by their name, so it is kept as given.
        revision: hub revision.
        cache_dir: where the hub's files are kept.
        trust_remote_code: run code that comes with the model: its network's, and modules of its own.
        follow_links: take a folder whose links lead out of it, to a store of DVC, git-annex or a mounted one, and an
            adapter whose base is another folder.
        sparse: read a masked language model without `modules.json` as sentence-transformers' SparseEncoder does: its
            head of the vocabulary, and SpladePooling. Otherwise it is read as SentenceTransformer does.
        modalities: what is taken of it, `text`, or `text` and `image`; None takes all that it has.
        file: the ONNX or OpenVINO graph that its network is read from, such as `onnx/model.onnx`, also where there are
            other weights; None takes weights, and where there are none the usual graph.
        adopt: keep that graph as the network, in the place of weights that are read out of it; set by a target, not by
            users.
    """

    model: Any
    revision: str | None = None
    cache_dir: str | None = None
    trust_remote_code: bool = False
    follow_links: bool = False
    sparse: bool = False
    modalities: Sequence[str] | None = None
    file: str | None = None
    adopt: bool = False

    def __post_init__(self) -> None:
        if self.modalities is not None and list(self.modalities) not in ([TEXT], [TEXT, IMAGE]):
            raise InputError(f"modalities must be {TEXT}, or {TEXT},{IMAGE}; got {','.join(map(str, self.modalities))}")

    @classmethod
    def of(cls, model: Any, options: SourceOptions) -> ModelSource:
        """The model with what is said of it; a `ModelSource` says it all by itself.

        Raises:
            InputError: there is no such option.
        """
        if isinstance(model, cls):
            return model
        check_options(options, SourceOptions.__annotations__)
        return cls(model, **options)

    def described(self, folder: Path) -> StackDescription:
        """What is taken of the folder that `located` gave. Errors as of `describe`."""
        found = describe(
            folder, trust_remote_code=self.trust_remote_code, follow_links=self.follow_links, sparse=self.sparse
        )
        return found.of(self.modalities)

    @property
    def is_live(self) -> bool:
        """Whether it is an object, not a name."""
        return not isinstance(self.model, (str, Path))

    @contextlib.contextmanager
    def located(self) -> Iterator[tuple[Path, str]]:
        """A folder with the model and its weights in it, and the model's name.

        Raises:
            ModelFolderError: there is no such folder, and the hub does not have it or cannot be reached; it has not the
                file that is to be read.
            UnsupportedError: its weights are in a graph, and cannot be read out of it.
            InputError: it is neither a name nor a model of sentence-transformers.
        """
        with self.as_it_is() as (folder, name), self.with_weights(folder, name, self.graphs(folder)) as complete:
            yield complete, name

    @contextlib.contextmanager
    def with_weights(self, folder: Path, name: str, graphs: dict[str, str]) -> Iterator[Path]:
        """The folder that `as_it_is` gave, or a copy that has weights in the place of its `graphs`; as `located`."""
        if not graphs:
            yield folder
            return
        # Imported for this alone: it brings torch, which whoever only looks at a folder does without.
        from stcompile.compiler.modules.graph_weights import write_with_weights  # noqa: PLC0415

        # What is copied follows links: none may lead out.
        Folder(folder, self.follow_links).refuse_links_out()
        with scratch("model") as made, about(name):
            write_with_weights(folder, graphs, made)
            yield made

    def graphs(self, folder: Path) -> dict[str, str]:
        """Of each network of a folder that is read from a graph its place, and the file in that.

        Errors as of `networks_read_from_graphs`.
        """
        if self.is_live:
            if self.file is not None or self.adopt:
                raise InputError("a graph is read in a model folder, and a live object has none: name a folder")
            return {}
        found = {}
        if folder.is_dir():
            found = dict(networks_read_from_graphs(Folder(folder, self.follow_links), self.file))
        if self.adopt and not found:
            if graphs_in(Folder(folder, self.follow_links), ""):
                raise ModelFolderError(
                    f"{folder} has weights besides the graph that is to be kept: name it with --file"
                )
            raise ModelFolderError(f"{folder} has no ONNX graph that could be kept as it is: choose another target")
        return found

    @contextlib.contextmanager
    def as_it_is(self) -> Iterator[tuple[Path, str]]:
        """The folder as it is named, whatever its weights are in. Errors as of `located`."""
        model = self.model
        if not self.is_live:
            path = local_path(model)
            if path.exists() or not _HUB_ID.fullmatch(str(model)):
                # realpath() ends where a link leads back to itself; what is there the reader of the folder says.
                yield path, Path(os.path.realpath(path)).name
            else:
                yield hub.download(
                    str(model), _HUB_FILES, revision=self.revision, cache_dir=self.cache_dir, graph=self.file
                )
            return
        if not callable(getattr(model, "save_pretrained", None)):
            kind = type(model).__name__
            raise InputError(
                "expected a model folder, a hub id, or a SentenceTransformer, SparseEncoder, MultiVectorEncoder or "
                f"CrossEncoder, got {kind}"
            )
        with scratch("model") as folder:
            _save(model, folder)
            yield folder, type(model).__name__


@contextlib.contextmanager
def left_in_mode(model: Any) -> Iterator[None]:
    """Puts those modules of a live model that were training back into that mode, which to encode ends."""
    training = [module for module in model.modules() if module.training]
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _save(model: Any, folder: Path) -> None:
    """Errors as of `located`."""
    name = type(model).__name__
    try:
        model.save_pretrained(str(folder), create_model_card=False)
    except NotImplementedError as error:  # of a module that is a function of Python
        reason = f"one of its modules cannot be saved ({one_line(error, 200)}): leave it out"
        raise UnsupportedError(name, reason) from error
    except AttributeError as error:
        unsaved = [
            f"its module {place}, a {type(module).__name__}, has no save: leave it out, or make it a Module of "
            "sentence-transformers"
            for place, module in getattr(model, "_modules", {}).items()
            if not hasattr(module, "save")
        ]
        if "'save'" not in str(error) or not unsaved:
            raise
        raise UnsupportedError(name, *unsaved) from error
