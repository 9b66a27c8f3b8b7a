"""The files of a job: found, told apart, and recognised when they are seen again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stcompile.bulk.store import is_local, opened
from stcompile.errors import InputError

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
        """A stream of its bytes as they are stored, which can seek."""
        fs, path = opened(self.address)
        return fs.open(path, "rb")

    def digest(self) -> str:
        """sha256 of its bytes; empty where they are not on this machine's disk, and its version must do."""
        fs, path = opened(self.address)
        if not is_local(fs):
            return ""
        found = hashlib.sha256()
        with fs.open(path, "rb") as stream:
            while block := stream.read(_BLOCK):
                found.update(block)
        return found.hexdigest()


def find(addresses: Sequence[str]) -> list[InputFile]:
    """The files behind paths, addresses, globs and folders, each once, in the order of their names.

    Args:
        addresses: of files; of folders, whose files of known endings are taken at any depth, but for those whose names
            begin with `.` or `_`; with `*`, `?` and `[`, of all that fits.

    Raises:
        InputError: one leads to no file, or a file's ending is unknown.
    """
    found: dict[str, InputFile] = {}
    unknown = []
    for address in addresses:
        fs, path = opened(address)
        for item, is_named in _behind(fs, path, address):
            format, compression = kind_of(item["name"])
            if format is None:
                if is_named:
                    unknown.append(item["name"])
                continue
            full = str(fs.unstrip_protocol(item["name"]))
            found[full] = InputFile(full, format, compression, int(item["size"] or 0), _version(fs, item))
    if unknown:
        known = ", ".join((*FORMATS, *COMPRESSIONS))
        raise InputError(f"cannot tell the format of {', '.join(unknown[:5])}: the endings {known} are known")
    if not found:
        raise InputError(f"there is no file to read in {', '.join(addresses)}")
    return [found[name] for name in sorted(found)]


def kind_of(name: str) -> tuple[str | None, str | None]:
    """A file's format and compression by its name; None for an unknown format."""
    lower = name.lower()
    compression = next((kind for ending, kind in COMPRESSIONS.items() if lower.endswith(ending)), None)
    if compression is not None:
        lower = lower.rpartition(".")[0]
    return next((kind for ending, kind in FORMATS.items() if lower.endswith(ending)), None), compression


def _behind(fs: Any, path: str, address: str) -> list[tuple[dict[str, Any], bool]]:
    """What is known of each file, and whether the user asked for this one and not for a folder of it."""
    try:
        if any(sign in path for sign in "*?[") and not fs.exists(path):
            names = [name for name in fs.glob(path) if not fs.isdir(name)]
            if not names:
                raise InputError(f"no file fits {address}")
            return [(fs.info(name), True) for name in names]
        if not fs.isdir(path):
            return [(fs.info(path), True)]
        below = fs.find(path, detail=True)
        start = len(path.rstrip("/")) + 1
        return [(item, False) for name, item in below.items() if not _is_hidden(name[start:])]
    except FileNotFoundError as error:
        raise InputError(f"{address} does not exist") from error
    except OSError as error:
        raise InputError(f"{address} cannot be read: {error.strerror or error}") from error


def _is_hidden(path: str) -> bool:
    """As Spark, pyarrow and Hive read folders: what a job notes beside its files is none of them."""
    return any(part.startswith((".", "_")) for part in path.split("/"))


def _version(fs: Any, item: dict[str, Any]) -> str:
    for name in ("ETag", "etag", "md5Hash", "contentHash", "generation", "versionId", "mtime", "LastModified"):
        if item.get(name):
            return f"{name} {item[name]}"
    return str(fs.ukey(item["name"]))
