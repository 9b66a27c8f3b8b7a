"""The artifact folder: staged beside its destination, published by a rename, checked when opened."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import glob
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from stcompile.errors import ArtifactError
from stcompile.manifest import MANIFEST_NAME, FileEntry, Manifest

_CHUNK = 1 << 20

# What an artifact is called for the moment between the two renames that replace it.
_PREVIOUS = ".previous"


@dataclasses.dataclass(frozen=True)
class Artifact:
    """An opened artifact: its folder and its manifest."""

    folder: Path
    manifest: Manifest

    @property
    def size(self) -> int:
        """Bytes of all the files the manifest lists."""
        return sum(entry.size for entry in self.manifest.files)


def open_artifact(folder: str | Path, *, check_integrity: bool = True) -> Artifact:
    """Opens an artifact.

    Args:
        folder: the artifact's folder.
        check_integrity: hash every file and compare with the manifest (about 1 s per GB).

    Raises:
        ArtifactError: missing, not an artifact, of a newer schema, incomplete, corrupt or tampered with.
    """
    root = Path(folder)
    path = root / MANIFEST_NAME
    try:
        if not root.is_dir():
            raise ArtifactError(f"there is no artifact at {root}: check the path, or run stcompile export first")
        if not path.is_file():
            raise ArtifactError(f"{root} is not an stcompile artifact: it has no {MANIFEST_NAME}")
        manifest = Manifest.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error
    for entry in manifest.files:
        try:
            _check(root, entry, check_integrity)
        except OSError as error:
            raise ArtifactError(f"{root / entry.path} cannot be read: {error}") from error
    _refuse_unlisted(root, manifest)
    return Artifact(root, manifest)


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


@contextlib.contextmanager
def staged(destination: Path) -> Iterator[Path]:
    """A staging folder beside `destination` that replaces it only if the block ends without an error.

    What was at `destination` before stays until the moment of the rename, and comes back if that fails.
    Only a missing or empty folder or an earlier artifact is replaced, never somebody's other files.

    Raises:
        ArtifactError: the destination holds something else, cannot be written, or the disk is full.
    """
    destination = _absolute(destination)
    staging = destination.parent / f".{destination.name}.staging-{os.getpid()}.{secrets.token_hex(4)}"
    with _readable_os_errors(destination):
        _clean_up_after_killed(destination)
        _refuse_foreign(destination)
        destination.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
        try:
            yield staging
            _sync(staging)
            _swap(staging, destination)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _refuse_unlisted(root: Path, manifest: Manifest) -> None:
    """What is opened must have been hashed: a name outside the list would slip past the check."""
    listed = {entry.path for entry in manifest.files}
    opened = [manifest.text.tokenizer]
    for graph in manifest.graphs:
        opened += [] if graph.text is None else [graph.text.tokenizer]
        opened += [graph.file] if graph.external_data is None else [graph.file, graph.external_data]
    for name in opened:
        if name not in listed:
            raise ArtifactError(f"{MANIFEST_NAME} in {root} names {name} but does not list it: do not use the artifact")


def _check(root: Path, entry: FileEntry, check_integrity: bool) -> None:
    path = root / entry.path
    if ".." in Path(entry.path).parts or Path(entry.path).is_absolute():
        raise ArtifactError(f"{MANIFEST_NAME} names a file outside the artifact ({entry.path}): do not use it")
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


def check_destination(destination: Path) -> None:
    """Refuses a destination that `staged` would refuse, before minutes of work are put into it.

    Raises:
        ArtifactError: it holds something else, or its folder cannot be written.
    """
    destination = _absolute(destination)
    with _readable_os_errors(destination):
        _refuse_foreign(destination)
        home = next(parent for parent in destination.parents if parent.exists())
        if not home.is_dir():
            raise ArtifactError(f"{home} is a file: choose a folder as the destination")
        if not os.access(home, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "Permission denied", str(home))


def _refuse_foreign(destination: Path) -> None:
    if destination.is_dir():
        if any(destination.iterdir()) and not (destination / MANIFEST_NAME).is_file():
            raise ArtifactError(f"{destination} is not empty and not an stcompile artifact: choose another destination")
    elif destination.exists() or destination.is_symlink():
        raise ArtifactError(f"{destination} is a file: choose a folder as the destination")


def _absolute(destination: Path) -> Path:
    return Path(os.path.abspath(destination))  # noqa: PTH100 - resolve() would follow a link away


def _clean_up_after_killed(destination: Path) -> None:
    """Removes staging folders of exports that were killed, and brings back what one had moved aside."""
    prefix = f".{destination.name}.staging-"
    for left in sorted(destination.parent.glob(f"{glob.escape(prefix)}*")):
        pid = left.name.removeprefix(prefix).partition(".")[0]
        if not pid.isdigit() or _alive(int(pid)):
            continue
        if left.name.endswith(_PREVIOUS) and not os.path.lexists(destination):
            left.rename(destination)
        else:
            _remove(left)


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


def _swap(staging: Path, destination: Path) -> None:
    previous = staging.with_name(f"{staging.name}{_PREVIOUS}")
    had_previous = os.path.lexists(destination)
    if had_previous:
        destination.rename(previous)
    try:
        staging.rename(destination)
    except BaseException:
        if had_previous:
            previous.rename(destination)
        raise
    if had_previous:
        _remove(previous)


@contextlib.contextmanager
def _readable_os_errors(destination: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ArtifactError(f"no space left to write {destination}: free some or choose another disk") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ArtifactError(f"{destination} cannot be written ({error.strerror}): choose another one") from error
        raise ArtifactError(f"{destination} could not be written: {error}") from error
