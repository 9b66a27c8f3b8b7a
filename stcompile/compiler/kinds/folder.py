"""A model folder that cannot be left: every path a file names is resolved inside it."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from stcompile.errors import ModelFolderError

_LARGEST_JSON = 64 << 20

# Bytes of a name, and of a path, as filesystems have them.
_LONGEST_PART, _LONGEST_PATH = 255, 2048

# What transformers reads by itself, wherever in the folder.
_READ_BY_TRANSFORMERS = frozenset(
    (
        *("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"),
        *("processor_config.json", "preprocessor_config.json"),
    )
)

# Keys that name further files of the folder for it to read.
_FURTHER_FILES = ("fast_tokenizer_files", "configuration_files", "transformers_weights")

# Tokenizers saved this path until 2023, that of the author's machine; no release opens it.
_NEVER_OPENED = "special_tokens_map_file"


@dataclass(frozen=True)
class Folder:
    """A model folder on disk.

    Attributes:
        root: the folder.
        follow_links: whether its links may lead anywhere: to a store of DVC, git-annex or a mounted one.
        home: what links may point into otherwise: the folder itself, or the hub's cache of this one model, whose
            snapshots are links to blobs beside them.
    """

    root: Path
    follow_links: bool = False

    @property
    def home(self) -> Path:
        real = self.root.resolve()
        for above in real.parents:
            if above.name == "snapshots" and above.parent.name.startswith("models--"):
                return above.parent
        return real

    def __post_init__(self) -> None:
        if not self.root.exists():
            raise ModelFolderError(f"there is no model folder at {self.root}: check the path")
        if not self.root.is_dir():
            raise ModelFolderError(f"{self.root} is a file: pass the folder that holds modules.json or config.json")

    def inside(self, relative: str) -> Path:
        """The path of `relative`, which must stay in the folder.

        Raises:
            ModelFolderError: absolute, climbing out by `..`, through a link that leaves the folder or has no end, or no
                name that a file can have.
        """
        pure = PurePosixPath(relative)
        path = self.root / pure
        if not _is_a_name(pure):
            raise ModelFolderError(
                f"{self.root} refers to {relative!r:.60}, which no file can be called: copy it again"
            )
        if _has_no_end(path):
            raise ModelFolderError(f"{self.root} holds a link that leads back to itself ({relative}): copy it again")
        climbs = pure.is_absolute() or ".." in pure.parts or "\\" in relative or "\0" in relative or ":" in relative
        if climbs:
            raise ModelFolderError(
                f"{self.root} refers to {relative!r:.200}, which is outside the folder: do not use it"
            )
        if not self.follow_links and not path.resolve().is_relative_to(self.home):
            raise ModelFolderError(
                f"{path} is a link to {path.resolve()}, outside the folder: pass --follow-links (follow_links=True) if "
                "you trust what it leads to"
            )
        return path

    def refuse_links_out(self) -> None:
        """Checks every file of the folder, also those that other libraries open by themselves.

        Raises:
            ModelFolderError: a link leaves the folder.
        """
        for path in self.root.rglob("*"):
            if path.is_symlink():
                self.inside(path.relative_to(self.root).as_posix())

    def refuse_paths_out(self) -> None:
        """Checks the paths that configurations hold for transformers to open, of which some it opens as they are.

        Raises:
            ModelFolderError: one is outside the folder; a path that leads to no file on this machine is nobody's harm.
        """
        for path in sorted(self.root.rglob("*.json")):
            if path.name not in _READ_BY_TRANSFORMERS or not path.is_file() or path.stat().st_size > _LARGEST_JSON:
                continue
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                texts = list(_texts_in(content))
            except (OSError, ValueError, RecursionError):  # whoever needs the file says so
                continue
            home = path.parent.relative_to(self.root)
            for key, text in texts:
                if key in _FURTHER_FILES:
                    self.inside(f"{home.as_posix()}/{text}" if home.parts and not text.startswith("/") else text)
                elif key != _NEVER_OPENED and "/" in text and self._is_file_outside(text):
                    raise ModelFolderError(f"{path} refers to {text!r}, which is outside the folder: do not use it")

    def _is_file_outside(self, text: str) -> bool:
        try:
            return Path(text).is_file() and not Path(text).resolve().is_relative_to(self.home)
        except (OSError, ValueError):  # no path at all: too long, or with a NUL
            return False

    def json(self, relative: str, *, finite: bool = True) -> Any:
        """The content of a JSON file, or None when there is no such file.

        Args:
            relative: the file.
            finite: refuse Infinity and NaN, which JSON does not have and transformers writes as a tokenizer's limit.

        Raises:
            ModelFolderError: not readable, not JSON, or absurdly large.
        """
        path = self.inside(relative)
        if not path.is_file():
            return None
        if path.stat().st_size > _LARGEST_JSON:
            raise ModelFolderError(f"{path} is larger than {_LARGEST_JSON >> 20} MB: this is not a configuration")
        try:
            return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant if finite else None)
        except (OSError, ValueError, RecursionError) as error:
            raise ModelFolderError(f"{path} is not valid JSON ({error}): copy the model again") from error

    def json_object(self, relative: str, *, finite: bool = True) -> dict[str, Any]:
        """As `json`, for a file that must hold an object; empty when there is no such file."""
        value = self.json(relative, finite=finite)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ModelFolderError(f"{self.root / relative} must hold a JSON object: copy the model again")
        return value


def join(path: str, name: str) -> str:
    """A name in a folder of the model; the root is an empty path."""
    return f"{path}/{name}" if path else name


def _is_a_name(pure: PurePosixPath) -> bool:
    """Whether a filesystem could hold it: neither half a character nor too long."""
    try:
        parts = [len(part.encode("utf-8")) for part in pure.parts]
    except UnicodeEncodeError:
        return False
    return max(parts, default=0) <= _LONGEST_PART and sum(parts) <= _LONGEST_PATH


def _has_no_end(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    except ValueError:  # a NUL
        return False
    return False


def _texts_in(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a JSON value, with the key of the object it is in."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts_in(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _texts_in(item, key)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number a configuration may hold")
