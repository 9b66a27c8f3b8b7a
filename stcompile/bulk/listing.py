"""What lies behind an address: a file, what fits a pattern, or a folder's files. What cannot be listed is an error."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stcompile.bulk.store import is_local
from stcompile.errors import InputError

# A file's name in its file system, what that said of it at once, and whether the user asked for it, not for a folder.
Listed = tuple[str, dict[str, Any] | None, bool]


def listed(fs: Any, path: str, address: str) -> Iterator[Listed]:
    """The files behind a path.

    Args:
        fs: its file system.
        path: in it; of a file; of a folder, whose files are taken at any depth, but for those whose names begin with
            `.` or `_`; with `*`, `?` and `[`, of all files and folders that fit.
        address: as the user wrote it.

    Raises:
        InputError: there is nothing.
        OSError: a folder cannot be listed.
    """
    names = [path]
    if _is_pattern(path) and not fs.exists(path):
        found = _fitting(path) if is_local(fs) else fs.glob(path)
        names = [name for name in found if not (fs.isdir(name) and _is_hidden(name, path))]
        if not names:
            raise InputError(f"no file fits {address}")
    for name in names:
        if not fs.isdir(name):
            yield name, None if is_local(fs) else fs.info(name), True
        elif is_local(fs):
            for folder, files in _local_folders(name):
                yield from ((f"{folder.rstrip('/')}/{file}", None, False) for file in _shown(files))
        else:
            yield from ((item["name"], item, False) for item in _below(fs, name))


def _local_folders(top: str, with_hidden: bool = False) -> Iterator[tuple[str, list[str]]]:
    """A folder, those below and those that links in it lead to, each once; and the names of their files."""
    seen = set()
    for folder, folders, files in os.walk(top, onerror=_raise, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(folders if with_hidden else _shown(folders))
        yield folder, files


def _below(fs: Any, folder: str) -> Iterator[dict[str, Any]]:
    """Folder by folder: fsspec's own `find` and `walk` leave out what cannot be listed, and say nothing."""
    items = {item["name"].rstrip("/"): item for item in fs.ls(folder, detail=True)}
    # Object stores may have an empty object of a folder's own name in it.
    items.pop(folder.rstrip("/"), None)
    for name in sorted(items):
        if not list(_shown([name.rpartition("/")[2]])):
            continue
        if items[name]["type"] == "directory":
            yield from _below(fs, name)
        else:
            yield items[name]


def _fitting(pattern: str) -> list[str]:
    """Paths of this machine's disk: Python's own `glob` leaves out what cannot be listed, and says nothing."""
    found = [Path("/")]
    for part in pattern.strip("/").split("/"):
        folders = [place for place in found if place.is_dir()]
        if part == "**":
            found = [Path(folder) for place in folders for folder, _ in _local_folders(str(place), with_hidden=True)]
        elif _is_pattern(part):
            found = [item for place in folders for item in place.iterdir() if fnmatch.fnmatchcase(item.name, part)]
        else:
            found = [place / part for place in folders if os.path.lexists(place / part)]
    return [str(place) for place in found]


def _is_pattern(path: str) -> bool:
    return any(sign in path for sign in "*?[")


def _is_hidden(folder: str, pattern: str) -> bool:
    """Whether a pattern fits a folder that was hardly meant by it."""
    name, asked = folder.rstrip("/").rpartition("/")[2], pattern.rpartition("/")[2]
    return asked[:1] != name[:1] and not list(_shown([name]))


def _shown(names: Iterable[str]) -> Iterator[str]:
    """As Spark, pyarrow and Hive read folders: what a job notes beside its files is none of them."""
    return (name for name in names if not name.startswith((".", "_")))


def _raise(error: OSError) -> None:
    raise error
