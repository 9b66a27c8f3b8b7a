"""A folder that files are put into whole, on a disk or in an object store."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stcompile.artifact.writing import written
from stcompile.errors import InputError, StcompileError, one_line
from stcompile.extras import require

_PURPOSE = "Encoding files"

# How what is being written is called until it is whole; such a file is never read.
_PARTIAL = ".partial-"


class Store:
    """A folder, by its path or any address that fsspec knows.

    On a disk a file is written beside its place, flushed and moved into it. An object store has no names in between: an
    object is there once it is whole.

    Args:
        address: of the folder, `~` and all.

    Raises:
        MissingExtraError: fsspec, or what it needs for such an address, is not installed.
        InputError: there is no such kind of address.
    """

    def __init__(self, address: str) -> None:
        self.fs, self.root = opened(address)
        self.address = str(self.fs.unstrip_protocol(self.root))
        self.is_local = is_local(self.fs)

    def put(self, name: str, content: bytes | Any) -> None:
        """Puts one file in place, whole or not at all; a file of that name is replaced.

        Args:
            name: in the folder, with `/`.
            content: bytes, or what has their buffer.

        Raises:
            ArtifactError: there is no space, or no permission.
        """
        self.put_pieces(name, [content])

    def put_pieces(self, name: str, pieces: Iterable[Any]) -> None:
        """`put` of a content that comes piece by piece."""
        place = Path(self._place(name))
        with reached(self.address), written(place):
            if not self.is_local:
                with self.fs.open(self._place(name), "wb") as stream:
                    for piece in pieces:
                        stream.write(piece)
                return
            place.parent.mkdir(parents=True, exist_ok=True)
            partial = place.with_name(f".{place.name}{_PARTIAL}{secrets.token_hex(8)}")
            try:
                with partial.open("xb") as stream:
                    for piece in pieces:
                        stream.write(piece)
                    stream.flush()
                    os.fsync(stream.fileno())
                partial.replace(place)
            except BaseException:
                with contextlib.suppress(OSError):
                    partial.unlink()
                raise
            _flush(place.parent)

    def put_json(self, name: str, value: Any) -> None:
        """Puts JSON in place; the same value gives the same bytes, names that are no UTF-8 too."""
        self.put(name, json_bytes(value))

    def get(self, name: str) -> bytes | None:
        """A file's bytes; None where there is none."""
        try:
            with reached(self.address):
                found: bytes = self.fs.cat_file(self._place(name))
        except FileNotFoundError:
            return None
        return found

    def get_json(self, name: str) -> Any:
        """What JSON a file holds; None where there is none.

        Raises:
            InputError: it holds none.
        """
        content = self.get(name)
        try:
            return None if content is None else json.loads(content)
        except ValueError as error:
            raise InputError(f"{self._place(name)} was not written by this program ({error}): remove it") from error

    def names(self, folder: str = "") -> dict[str, int]:
        """The files directly in a folder, whole ones only, and their sizes in bytes; none where there is none."""
        place = self._place(folder)
        self.fs.invalidate_cache(place)
        try:
            with reached(self.address):
                found = self.fs.ls(place, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        files = {item["name"].rstrip("/").rpartition("/")[2]: item["size"] for item in found if item["type"] == "file"}
        return {name: size for name, size in files.items() if _PARTIAL not in name}

    def entries(self) -> list[str]:
        """Everything directly in the folder, what is being written too.

        Raises:
            InputError: it is a file.
            ArtifactError: it cannot be looked into.
        """
        self.fs.invalidate_cache(self.root)
        with reached(self.address), written(Path(self.root)):
            if self.fs.isfile(self.root):
                raise InputError(f"{self.root} is a file: the output is a folder, choose another place")
            try:
                found = self.fs.ls(self.root, detail=False)
            except FileNotFoundError:
                return []
        return sorted(str(item).rstrip("/").rpartition("/")[2] for item in found)

    def remove(self, name: str) -> None:
        """Removes a file; nothing where it is not there."""
        with reached(self.address), written(Path(self._place(name))), contextlib.suppress(FileNotFoundError):
            if self.is_local:
                Path(self._place(name)).unlink()
            else:
                # `rm` would take the name for a pattern.
                self.fs.rm_file(self._place(name))

    def remove_folder(self, name: str) -> None:
        """Removes a folder and all in it; nothing where it is not there."""
        if self.is_local:
            with written(Path(self._place(name))), contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self._place(name))
            return
        for file in self.names(name):
            self.remove(f"{name}/{file}")

    def clear_partial(self, folder: str = "") -> None:
        """Removes what a killed writer left; only where nobody else writes."""
        if not self.is_local:
            return
        with contextlib.suppress(OSError):
            for item in Path(self._place(folder)).glob(f".*{_PARTIAL}*"):
                item.unlink()

    @contextlib.contextmanager
    def only_one(self, name: str) -> Iterator[None]:
        """Held by one process of this disk at a time, which the kernel ends with it.

        Object stores have no locks: there two runs of one job put the same bytes into the same places, twice.

        Of a block that fails before it has put anything, nothing is left: neither the lock nor folders made for it.

        Raises:
            InputError: another process holds it.
        """
        if not self.is_local:
            yield
            return
        filelock = require("filelock", _PURPOSE, "bulk")
        file = Path(self._place(name))
        lock = filelock.FileLock(file, timeout=0)
        # The innermost first.
        made = [folder for folder in file.parents if not folder.exists()]
        with written(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
            except filelock.Timeout as error:
                raise InputError(f"another run writes to {self.root}: wait for it, or choose another output") from error
        try:
            yield
        except BaseException:
            # While it is held: whoever waits for it makes its own.
            if made and [item.name for item in file.parent.iterdir()] == [file.name]:
                with contextlib.suppress(OSError):
                    file.unlink()
                    for folder in made:
                        folder.rmdir()
            raise
        finally:
            lock.release()

    def _place(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}".rstrip("/")


def json_bytes(value: Any) -> bytes:
    """As files of a job hold it."""
    return (json.dumps(value, indent=1) + "\n").encode()


def opened(address: str | os.PathLike[str]) -> tuple[Any, str]:
    """The file system of an address, and the path in it; of this machine's disk an absolute one.

    Raises:
        MissingExtraError: what it needs is not installed.
        InputError: there is no such kind of address.
        StcompileError: it cannot be reached.
    """
    fsspec = require("fsspec", _PURPOSE)
    address = os.fspath(address)
    path = _local_path(address)
    if path is not None:
        # Not by its name: fsspec would take `::` in it for a chain of file systems.
        return fsspec.filesystem("file"), path
    known = "a path, or an address such as s3://bucket/folder"
    with reached(address):
        try:
            fs, place = fsspec.core.url_to_fs(address)
        except ImportError as error:
            raise InputError(f"{address} cannot be opened: {error}") from error
        except ValueError as error:
            raise InputError(f"{address} is no address of files ({error}): pass {known}") from error
        except OSError as error:
            raise InputError(f"{address} cannot be opened ({reason_of(error)}): pass {known}") from error
    return fs, str(place)


@contextlib.contextmanager
def reached(address: str) -> Iterator[None]:
    """Wraps what asks a file system: what it raises is told as one sentence about the address.

    An OSError says of itself what it is (there is no such file, no space, no permission), and stays as it is.

    Raises:
        StcompileError: its server, its credentials or the file system itself failed.
    """
    try:
        yield
    except (OSError, StcompileError):
        raise
    except Exception as error:
        raise StcompileError(
            f"{address} cannot be reached ({reason_of(error)}): mend that, and the same command goes on"
        ) from error


def reason_of(error: BaseException) -> str:
    """What an error of the system or of a library says, in a few words, and its kind where it has no words."""
    words = (error.strerror if isinstance(error, OSError) else None) or one_line(error, 200)
    return words or type(error).__name__


def _local_path(address: str) -> str | None:
    """Absolute, where an address is of this machine's disk."""
    prefix = re.match(r"(?:file|local):(?://|(?=/))", address)
    if prefix is None and "://" in address:
        return None
    path = address[prefix.end() :] if prefix else address
    if not path:
        raise InputError("an address is empty: pass a path, or an address such as s3://bucket/folder")
    # A name that no user has is a file's: pathlib would raise.
    path = os.path.expanduser(path)  # noqa: PTH111
    # What is before `..` may be a link, and then leads elsewhere than its name says; other links keep their names.
    return os.path.realpath(path) if ".." in path.split("/") else os.path.abspath(path)  # noqa: PTH100


def is_local(fs: Any) -> bool:
    """Whether its files are on this machine's disk, where names are changed at once."""
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    return bool(protocol == "file")


def _flush(folder: Path) -> None:
    """Makes a name last through a loss of power, where the file system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
