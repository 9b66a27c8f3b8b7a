"""The artifact folder: what is in it, and the checks when it is opened."""

from __future__ import annotations

import dataclasses
import hashlib
import mmap
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from stcompile.artifact.manifest import MANIFEST_NAME, FileEntry, Manifest
from stcompile.errors import ArtifactError

# Where an export works that publishes into a folder it cannot replace as a whole; see `publish`.
WORK_NAME = ".stcompile-export"

_CHUNK = 1 << 20

_LARGEST_JSON = 64 << 20

# How protobuf spells where the weights of a tensor are (StringStringEntryProto): the key, and the length of the name.
_LOCATION = re.compile(rb"\x0a\x08location\x12(.)", re.DOTALL)

# By what a model folder is told.
MODEL_NAMES = ("modules.json", "config.json")

# What is no part of a folder's content: an export at work, and what a filesystem keeps in its root.
FILESYSTEM_NAMES = frozenset((WORK_NAME, "lost+found"))

# What people and tools put beside a model's files, and no graph of ours refers to: the hub's card and settings,
# licences, version control, and what a file browser leaves behind.
_EXTRAS = frozenset(
    (
        *FILESYSTEM_NAMES,
        *("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE"),
        *(".git", ".gitattributes", ".gitignore", ".gitkeep", ".cache"),
    )
)

# What macOS puts into any folder, and a volume of Kubernetes (a ConfigMap's, a projected one's) into its root.
_OF_FINDER = re.compile(r"\.DS_Store|\._.+", re.DOTALL)
_OF_VOLUMES = re.compile(r"\.\.(data|data_tmp|\d{4}(_\d\d){5}\.\d+)")


@dataclasses.dataclass(frozen=True)
class Artifact:
    """An opened artifact: its folder and its manifest."""

    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """What it is called: as its folder, or as its repository where the hub's cache holds it."""
        return name_of(self.folder)

    @property
    def size(self) -> int:
        """Bytes of all the files the manifest lists."""
        return sum(entry.size for entry in self.manifest.files)


def repository_of(folder: Path) -> str | None:
    """`owner/name` of a folder in the hub's cache, models--owner--name/snapshots/COMMIT; None of any other."""
    kind, *names = folder.parent.parent.name.split("--") if folder.parent.name == "snapshots" else [""]
    return "/".join(names) if kind == "models" and names else None


def name_of(folder: Path) -> str:
    """What an artifact there is called: as the folder, or as its repository where the hub's cache holds it."""
    return repository_of(folder) or folder.name


def open_artifact(folder: str | Path, *, check_integrity: bool = True) -> Artifact:
    """Opens an artifact.

    Args:
        folder: the artifact's folder.
        check_integrity: hash every file and compare with the manifest (about 1 s per GB).

    Raises:
        ArtifactError: missing, not an artifact, of a newer schema, incomplete, corrupt or tampered with, or with files
            that its manifest does not list.
    """
    root = Path(folder)
    manifest = read_manifest(root)
    for entry in manifest.files:
        try:
            _check(root, entry, check_integrity)
        except OSError as error:
            raise ArtifactError(f"{root / entry.path} cannot be read: {error}") from error
    _refuse_unlisted(root, manifest)
    return Artifact(root, manifest)


def read_manifest(root: Path) -> Manifest:
    """The manifest of a folder; the other files are not looked at.

    Raises:
        ArtifactError: there is no such folder, it has no manifest, or that is not one that this release reads.
    """
    path = root / MANIFEST_NAME
    try:
        if not root.is_dir():
            raise ArtifactError(f"there is no artifact at {root}: check the path, or run stcompile export first")
        if not path.is_file():
            if any((root / name).is_file() for name in MODEL_NAMES):
                raise ArtifactError(f"{root} is a model, not an stcompile artifact: run stcompile export first")
            raise ArtifactError(f"{root} is not an stcompile artifact: it has no {MANIFEST_NAME}")
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error
    return Manifest.from_json(read_text(path))


def read_text(path: Path) -> str:
    """The text of an artifact's JSON file.

    Raises:
        ArtifactError: it cannot be read, or is larger than any that was written.
    """
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise ArtifactError(f"{path} is larger than {_LARGEST_JSON >> 20} MB: it is not an stcompile {path.stem}")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Writes `manifest.json` with the hash of every other file in `folder`, and returns what was written."""
    files = tuple(
        FileEntry(path.relative_to(folder).as_posix(), _sha256(path), path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST_NAME
    )
    complete = dataclasses.replace(manifest, files=files)
    (folder / MANIFEST_NAME).write_text(complete.to_json(), encoding="utf-8")
    return complete


def unlisted(root: Path, manifest: Manifest, is_passed_over: Callable[[str], bool]) -> Iterator[str]:
    """What lies in a folder beside the files that the manifest lists: paths relative to it, with slashes.

    Links count for themselves, and so do empty folders.

    Args:
        root: the folder.
        manifest: its manifest.
        is_passed_over: whether a file or folder, by its path as it is given here, is nobody's concern.
    """
    listed = {MANIFEST_NAME, *(entry.path for entry in manifest.files)}

    def fail(error: OSError) -> None:
        raise error

    for home, folders, files in os.walk(root, onerror=fail):
        inside = Path(home).relative_to(root)
        if inside.parts and not files and not folders:
            yield inside.as_posix()
        folders[:] = [name for name in folders if not is_passed_over((inside / name).as_posix())]
        # os.walk takes a link to a folder for a folder, and does not follow it.
        links = [name for name in folders if (Path(home) / name).is_symlink()]
        for name in (*files, *links):
            path = (inside / name).as_posix()
            if path not in listed and not is_passed_over(path):
                yield path


def _is_extra(path: str) -> bool:
    return (
        path in _EXTRAS
        or _OF_VOLUMES.fullmatch(path) is not None
        or _OF_FINDER.fullmatch(path.rpartition("/")[2]) is not None
    )


def _refuse_unlisted(root: Path, manifest: Manifest) -> None:
    """What is opened must have been hashed: a name outside the list would slip past the check."""
    listed = {entry.path for entry in manifest.files}
    opened = [manifest.text.tokenizer]
    graphs = manifest.graphs if manifest.image is None else (*manifest.graphs, manifest.image.graph)
    for graph in graphs:
        opened += [] if graph.text is None else [graph.text.tokenizer]
        opened += [graph.file] if graph.external_data is None else [graph.file, graph.external_data]
    for name in opened:
        if name not in listed:
            raise ArtifactError(f"{MANIFEST_NAME} in {root} names {name} but does not list it: do not use the artifact")
    # A graph may refer to weights by a name that stands in the graph alone.
    try:
        for graph in graphs:
            for name in _weights_outside(root / graph.file):
                if (Path(graph.file).parent / name).as_posix() not in listed:
                    raise ArtifactError(
                        f"{graph.file} in {root} reads weights from {name}, which {MANIFEST_NAME} does not list: do "
                        "not use the artifact"
                    )
        # In the hub's cache may lie what else is in a repository, and somebody else has fetched.
        for name in () if repository_of(root) else unlisted(root, manifest, _is_extra):
            raise ArtifactError(
                f"{root} holds {name}, which its {MANIFEST_NAME} does not list: move it elsewhere, or do not use the "
                "artifact"
            )
    except OSError as error:
        raise ArtifactError(f"{root} cannot be read: {error}") from error


def _weights_outside(graph: Path) -> set[str]:
    """The files of weights that an ONNX graph names, read off its bytes without a reader of ONNX."""
    if not graph.stat().st_size:
        return set()
    with graph.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # A name of 128 bytes and more would have a length of several: none of ours has, and none is listed.
        return {
            content[found.end() : found.end() + found[1][0]].decode("utf-8", "replace")
            for found in _LOCATION.finditer(content)
        }


def _check(root: Path, entry: FileEntry, check_integrity: bool) -> None:
    path = root / entry.path
    if not path.is_file():
        raise ArtifactError(f"{root} is incomplete: {entry.path} is missing; export the model again")
    if path.stat().st_size != entry.size or (check_integrity and _sha256(path) != entry.sha256):
        raise ArtifactError(
            f"{entry.path} in {root} is corrupt or was changed: it no longer matches its sha256 in "
            f"{MANIFEST_NAME}; export the model again"
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
