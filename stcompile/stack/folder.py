"""A model folder that cannot be left: every path a file names is resolved inside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from stcompile.errors import ModelFolderError

_LARGEST_JSON = 64 << 20


@dataclass(frozen=True)
class Folder:
    """A model folder on disk.

    Attributes:
        root: the folder.
        home: what links may point into: the folder itself, or the hub's cache of this one model, whose
            snapshots are links to blobs beside them.
    """

    root: Path

    @property
    def home(self) -> Path:
        real = self.root.resolve()
        in_cache = real.parent.name == "snapshots" and real.parent.parent.name.startswith("models--")
        return real.parent.parent if in_cache else real

    def __post_init__(self) -> None:
        if not self.root.exists():
            raise ModelFolderError(f"there is no model folder at {self.root}: check the path")
        if not self.root.is_dir():
            raise ModelFolderError(f"{self.root} is a file: pass the folder that holds modules.json or config.json")

    def inside(self, relative: str) -> Path:
        """The path of `relative`, which must stay in the folder.

        Raises:
            ModelFolderError: absolute, climbing out by `..`, or through a link that leaves the folder.
        """
        pure = PurePosixPath(relative)
        path = self.root / pure
        climbs = pure.is_absolute() or ".." in pure.parts or "\\" in relative or "\0" in relative or ":" in relative
        if climbs or not path.resolve().is_relative_to(self.home):
            raise ModelFolderError(f"{self.root} refers to {relative!r}, which is outside the folder: do not use it")
        return path

    def refuse_links_out(self) -> None:
        """Checks every file of the folder, also those that other libraries open by themselves.

        Raises:
            ModelFolderError: a link leaves the folder.
        """
        for path in self.root.rglob("*"):
            if path.is_symlink():
                self.inside(path.relative_to(self.root).as_posix())

    def json(self, relative: str) -> Any:
        """The content of a JSON file, or None when there is no such file.

        Raises:
            ModelFolderError: not readable, not JSON, or absurdly large.
        """
        path = self.inside(relative)
        if not path.is_file():
            return None
        if path.stat().st_size > _LARGEST_JSON:
            raise ModelFolderError(f"{path} is larger than {_LARGEST_JSON >> 20} MB: this is not a configuration")
        try:
            return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
        except (OSError, ValueError, RecursionError) as error:
            raise ModelFolderError(f"{path} is not valid JSON ({error}): copy the model again") from error

    def json_object(self, relative: str) -> dict[str, Any]:
        """As `json`, for a file that must hold an object; empty when there is no such file."""
        value = self.json(relative)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ModelFolderError(f"{self.root / relative} must hold a JSON object: copy the model again")
        return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number a configuration may hold")
