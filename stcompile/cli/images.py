"""The images that `stcompile encode --images` names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stcompile.cli.textfiles import texts_of
from stcompile.errors import InputError
from stcompile.runtime.arguments import local_path
from stcompile.runtime.pictures import ENDINGS


def images_of(named: str) -> Iterator[str]:
    """Paths of images: those in a folder, by name; one image; or those that a file names, one a line.

    Raises:
        InputError: there is no such file, or no image in the folder.
    """
    path = local_path(named)
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
        if not found:
            raise InputError(f"{path} holds no image ({', '.join(ENDINGS)}): name another folder, or a file of paths")
        return iter(map(str, found))
    if path.suffix.lower() in ENDINGS:
        return iter([str(path)])
    return (str(Path(line).expanduser()) for line in texts_of(named, "image") if line)
