"""How an artifact gets to its destination: one export at a time, staged and proved first, whole or not at all.

Everything an export needs for that lies in one work folder, which is gone afterwards: the lock, the staging folder,
and what is moved aside. It is beside the destination, which is then replaced by a rename. A folder that must stay the
same folder, such as a mount point, has it inside and is filled entry by entry, the manifest last.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from stcompile.artifact.folder import FILESYSTEM_NAMES, WORK_NAME, read_manifest, unlisted
from stcompile.artifact.manifest import MANIFEST_NAME
from stcompile.artifact.writing import written
from stcompile.errors import ArtifactError
from stcompile.extras import require

# Another export's work folder may vanish just when this one is about to lock it.
_TRIES = 100

# A folder that cannot be renamed: mounted, or of a lower layer of an overlay.
_STAYS = (errno.EBUSY, errno.EXDEV)

_MOUNTS = Path("/proc/self/mountinfo")


class Destination:
    """A folder that this process alone may publish to, until it lets go. Made by `claimed`.

    Attributes:
        path: the folder, absolute.
    """

    def __init__(self, path: Path) -> None:
        # resolve() would follow a link away.
        self.path = Path(os.path.abspath(path))  # noqa: PTH100
        inside = _is_closed_in(self.path)
        self._stays = inside or _is_working_directory(self.path)
        self._passed_over = FILESYSTEM_NAMES if inside else frozenset[str]()
        home, name = (self.path, WORK_NAME) if inside else (self.path.parent, f".{self.path.name}{WORK_NAME}")
        self._work = home / name
        self._staging = self._work / "staging"
        # What was there before: replaced as a whole, or by its entries, half and wholly moved aside.
        self._previous, self._moving, self._moved = (self._work / name for name in ("previous", "moving", "moved"))

    @contextlib.contextmanager
    def staged(self) -> Iterator[Path]:
        """A staging folder that takes the destination's place if the block ends without an error.

        What was there before stays until then, and comes back if that fails. An OSError of the block stays what it is.

        Raises:
            ArtifactError: the destination meanwhile holds something else, cannot be written, or the disk is full.
        """
        with written(self.path):
            self._staging.mkdir()
        try:
            yield self._staging
            with written(self.path):
                self.refuse_foreign()
                _sync(self._staging)
                self._swap()
        finally:
            with written(self.path):
                self._recover()

    def refuse_foreign(self) -> None:
        """Only an empty folder or an artifact is replaced, and one with other files in it is somebody's folder.

        Raises:
            ArtifactError: there is something else.
        """
        if not self.path.is_dir():
            if os.path.lexists(self.path):
                raise ArtifactError(f"{self.path} is a file: choose a folder as the destination")
            return
        if not self._names(self.path):
            return
        try:
            manifest = read_manifest(self.path)
        except ArtifactError as error:
            raise ArtifactError(
                f"{self.path} is not empty and not an stcompile artifact ({error}): choose another destination"
            ) from error
        for name in unlisted(self.path, manifest, self._passed_over.__contains__):
            raise ArtifactError(
                f"{self.path} is not only an stcompile artifact, it also holds {name}: move that elsewhere or choose "
                "another destination"
            )

    def claim(self) -> contextlib.ExitStack:
        """Locks the destination, and undoes what a killed export left; closing the result lets go."""
        with contextlib.ExitStack() as stack:
            if not os.path.lexists(self._work):
                self.refuse_foreign()
            if self.path.is_dir() and not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "Permission denied", str(self.path))
            stack.enter_context(_parents(self._work.parent))
            stack.enter_context(self._locked())
            self._recover()
            self.refuse_foreign()
            return stack.pop_all()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        filelock = require("filelock", "Publishing an artifact")
        file = self._work / "lock"
        lock = filelock.FileLock(file, timeout=0)
        for attempt in range(_TRIES):
            self._work.mkdir(exist_ok=True)
            try:
                lock.acquire()
                break
            except filelock.Timeout:
                raise ArtifactError(
                    f"another export is writing to {self.path}: wait for it or choose another destination"
                ) from None
            except FileNotFoundError:
                if attempt == _TRIES - 1:
                    raise
        try:
            yield
        finally:
            # Removed while it is held: whoever opened it before finds a lock without a name, and does not take it.
            with contextlib.suppress(OSError):
                file.unlink()
            lock.release()
            with contextlib.suppress(OSError):
                self._work.rmdir()

    def _swap(self) -> None:
        """Where it ends in the middle, `_recover` undoes it."""
        if self._stays:
            self._swap_entries()
            return
        if os.path.lexists(self.path):
            try:
                self.path.rename(self._previous)
            except OSError as error:
                if error.errno not in _STAYS:
                    raise
                self._swap_entries()
                return
        self._staging.rename(self.path)

    def _swap_entries(self) -> None:
        """Without its manifest a folder is no artifact: it goes first and comes last, and nobody reads a mixture."""
        self._moving.mkdir()
        _move(self.path, self._moving, self._names(self.path))
        self._moving.rename(self._moved)
        _move(self._staging, self.path, reversed(self._names(self._staging)))

    def _recover(self) -> None:
        """Undoes what an export was in the middle of; one that had only to tidy up is tidied up after."""
        if self._moved.is_dir():
            if (self.path / MANIFEST_NAME).exists():
                _remove(self._moved)
            else:
                for name in self._new_names():
                    _remove(self.path / name)
                self._moved.rename(self._moving)
        if self._moving.is_dir():
            _move(self._moving, self.path, reversed(self._names(self._moving)))
            self._moving.rmdir()
        if os.path.lexists(self._previous):
            if os.path.lexists(self.path):
                self.refuse_foreign()
                _remove(self._previous)
            else:
                self._previous.rename(self.path)
        _remove(self._staging)

    def _new_names(self) -> set[str]:
        """What was moved out of the staging folder already; its manifest goes last."""
        try:
            files = read_manifest(self._staging).files
        except ArtifactError:
            return set()
        names = {PurePosixPath(entry.path).parts[0] for entry in files}
        return {name for name in names if not os.path.lexists(self._staging / name)}

    def _names(self, folder: Path) -> list[str]:
        """What is in a folder, the manifest first."""
        names = (path.name for path in folder.iterdir() if path.name not in self._passed_over)
        return sorted(names, key=lambda name: name != MANIFEST_NAME)


@contextlib.contextmanager
def claimed(path: str | Path) -> Iterator[Destination]:
    """A destination for this process alone: refused before the work is done, not after it.

    Missing parents are made, and are gone again if nothing was published. What an export that was killed left there
    is removed, and what it had moved aside comes back.

    Args:
        path: the artifact's folder.

    Raises:
        ArtifactError: it holds something else than an artifact, another export is writing to it, or it cannot be
            written.
        MissingExtraError: filelock is not installed.
    """
    with written(Path(path)):
        destination = Destination(Path(path))
        claim = destination.claim()
    with claim:
        yield destination


def _is_closed_in(path: Path) -> bool:
    """Whether nothing can be put beside a folder: it is mounted, or its parent cannot be written.

    So it was when an export was killed that worked inside.
    """
    if path.is_symlink() or not path.is_dir():
        return False
    return (
        (path / WORK_NAME).exists()
        or os.path.ismount(path)
        or path.resolve() in _mounts()
        or not os.access(path.parent, os.W_OK | os.X_OK)
    )


def _is_working_directory(path: Path) -> bool:
    """Whether this process, and with it the shell that started it, is in a folder; it must not find it deleted."""
    try:
        here = Path.cwd().resolve()
    except OSError:  # that happened already
        return False
    return path.is_dir() and not path.is_symlink() and path.resolve() in (here, *here.parents)


def _mounts() -> set[Path]:
    """Where something is mounted, as Linux tells it: `os.path.ismount` misses a folder mounted from the same disk."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return set()
    return {Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), line.split()[4])) for line in lines}


@contextlib.contextmanager
def _parents(folder: Path) -> Iterator[None]:
    """Makes a folder and its parents, and removes those it made again where they stayed empty."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for parent in missing:
                parent.rmdir()


def _move(source: Path, target: Path, names: Iterable[str]) -> None:
    for name in names:
        if os.path.lexists(target / name):
            raise ArtifactError(f"{target / name} stands where an artifact's file belongs: move it elsewhere")
        (source / name).rename(target / name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
