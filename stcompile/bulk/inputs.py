"""The files of a job: found, told apart, and recognised when they are seen again."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stcompile.bulk.listing import listed
from stcompile.bulk.store import is_local, opened, reached, reason_of
from stcompile.errors import InputError, StcompileError

# Endings of the formats that are read. What a compressed file holds, the ending before says.
FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
    ".text": "text",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}

# Of these fsspec tells no address by which a file is found again.
_ARCHIVES = ("zip://", "tar://", "libarchive://")

_BLOCK = 1 << 20


@dataclass(frozen=True)
class InputFile:
    """One file of the input.

    Attributes:
        address: with its protocol, the same wherever it is read.
        format: a value of `FORMATS`.
        compression: `gzip` or `zstd`, as pyarrow calls them; None for none.
        size: bytes.
        version: what its file system says of its state: another one may mean another content.
    """

    address: str
    format: str
    compression: str | None
    size: int
    version: str

    def open(self) -> Any:
        """A stream of its bytes as they are stored, which can seek.

        Raises:
            StcompileError: it cannot be read now. So does every later call of the stream, and no other error.
        """
        fs, path = opened(self.address)
        with _read(self.address):
            return _Stream(self.address, fs.open(path, "rb"))

    def digest(self) -> str:
        """sha256 of its bytes; empty where they are not on this machine's disk, and its version must do.

        Raises:
            StcompileError: as `open`.
        """
        if not is_local(opened(self.address)[0]):
            return ""
        found = hashlib.sha256()
        with self.open() as stream:
            while block := stream.read(_BLOCK):
                found.update(block)
        return found.hexdigest()


def not_read(address: str, error: BaseException) -> StcompileError:
    """What may be over in a moment, and is no fault of the file."""
    return StcompileError(f"{address} could not be read ({reason_of(error)}): the same command goes on")


def find(addresses: Sequence[str | os.PathLike[str]]) -> list[InputFile]:
    """The files behind paths, addresses, globs and folders, each once, in the order of their names.

    Args:
        addresses: of files; of folders, whose files of known endings are taken at any depth, but for those whose names
            begin with `.` or `_`; with `*`, `?` and `[`, of all that fits, files and folders.

    Raises:
        InputError: one leads to no file, a folder cannot be listed, or a file's ending is unknown.
        StcompileError: one cannot be reached.
    """
    if isinstance(addresses, (str, os.PathLike)):
        raise InputError(f"the input is one address, {str(addresses)!r}: pass a list of it")
    named = [os.fspath(address) for address in addresses]
    found: dict[str, InputFile] = {}
    unknown: list[str] = []
    for address in named:
        for file in _behind(address, unknown):
            found[file.address] = file
    if unknown:
        known = ", ".join((*FORMATS, *COMPRESSIONS))
        raise InputError(f"cannot tell the format of {', '.join(unknown[:5])}: the endings {known} are known")
    if not found:
        raise InputError(f"there is no file to read in {', '.join(named)}")
    # A link and what it leads to are one file.
    first: dict[str, InputFile] = {}
    for name in sorted(found):
        first.setdefault(_place(name), found[name])
    return list(first.values())


def kind_of(name: str) -> tuple[str | None, str | None]:
    """A file's format and compression by its name; None for an unknown format."""
    lower = name.lower()
    compression = next((kind for ending, kind in COMPRESSIONS.items() if lower.endswith(ending)), None)
    if compression is not None:
        lower = lower.rpartition(".")[0]
    return next((kind for ending, kind in FORMATS.items() if lower.endswith(ending)), None), compression


def _behind(address: str, unknown: list[str]) -> Iterator[InputFile]:
    """The files behind one address; to the unknown are added those that it names and that have no known ending."""
    if address.startswith(_ARCHIVES):
        raise InputError(f"{address} is in an archive, whose files are not read: unpack it first")
    fs, path = opened(address)
    try:
        with reached(address):
            for name, known, is_named in listed(fs, path, address):
                format, compression = kind_of(name)
                if format is None and not is_named:
                    continue
                size, version = _on_disk(name) if known is None else (int(known["size"] or 0), _version(fs, known))
                if format is None:
                    unknown.append(name)
                    continue
                yield InputFile(str(fs.unstrip_protocol(name)), format, compression, size, version)
    except OSError as error:
        place = error.filename or address
        if isinstance(error, FileNotFoundError):
            raise InputError(f"{place} does not exist") from error
        raise InputError(f"{place} cannot be read: {reason_of(error)}") from error


def _on_disk(path: str) -> tuple[int, str]:
    """Size and state of a file, where it is a link of what it leads to."""
    found = Path(path).stat()
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path} is no file but a pipe or a device, which cannot be read twice: write it to a file")
    return found.st_size, f"mtime_ns {found.st_mtime_ns}"


def _version(fs: Any, item: dict[str, Any]) -> str:
    """What another file system than this machine's says of a file's state."""
    for name in ("ETag", "etag", "md5Hash", "contentHash", "generation", "versionId", "mtime", "LastModified"):
        if item.get(name):
            return f"{name} {item[name]}"
    return str(fs.ukey(item["name"]))


def _place(address: str) -> str:
    """The same for all names of a file."""
    fs, path = opened(address)
    return os.path.realpath(path) if is_local(fs) else address


class _Stream(io.RawIOBase):
    """A file's bytes. What its file system raises is told here, where it cannot be taken for damage of the file."""

    def __init__(self, address: str, stored: Any) -> None:
        self._address = address
        self._stored = stored

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        with _read(self._address):
            return bytes(self._stored.read(size))

    def readinto(self, buffer: Any) -> int:
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def seek(self, place: int, whence: int = 0) -> int:
        with _read(self._address):
            return int(self._stored.seek(place, whence))

    def tell(self) -> int:
        with _read(self._address):
            return int(self._stored.tell())

    def close(self) -> None:
        if not self.closed:
            self._stored.close()
        super().close()


@contextlib.contextmanager
def _read(address: str) -> Iterator[None]:
    try:
        yield
    except StcompileError:
        raise
    except Exception as error:
        raise not_read(address, error) from error
