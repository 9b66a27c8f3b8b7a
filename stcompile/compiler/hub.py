"""Models from the hub."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from stcompile.errors import ModelFolderError, one_line
from stcompile.extras import require
from stcompile.runtime.arguments import local_path

# Who publishes what has no name in front, as in sentence-transformers.
_ORGANIZATION = "sentence-transformers"

# Folders of exports for other engines.
_OTHER_ENGINES = frozenset(("onnx", "openvino", "coreml"))

_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model*.bin", "pytorch_model*.bin.index.json")


def download(
    model: str, files: Sequence[str], *, revision: str | None = None, cache_dir: str | None = None
) -> tuple[Path, str]:
    """Fetches the files of a model, or finds them in the hub's cache.

    Args:
        model: hub id. Without a slash it is one of sentence-transformers, or of the few models that have no owner.
        files: names, also with stars. Of weights that are there in both formats the safetensors are taken, and nothing
            of other engines' exports.
        revision: hub revision.
        cache_dir: where the hub's files are kept.

    Returns:
        the folder, and the id it was found under.

    Raises:
        ModelFolderError: the hub does not have it or cannot be reached.
    """
    hub = require("huggingface_hub", "Downloading a model from the hub")
    cache = None if cache_dir is None else str(local_path(cache_dir))
    names = [model] if "/" in model else [f"{_ORGANIZATION}/{model}", model]
    errors: list[Exception] = []
    for name in names:
        try:
            return _snapshot(hub, name, files, revision, cache), name
        except Exception as error:  # the hub's client raises network errors of several libraries
            errors.append(error)
            # A hub that could not answer may still have the first: the second would be another model.
            if not isinstance(error, (hub.errors.RepositoryNotFoundError, hub.errors.OfflineModeIsEnabled)):
                break
    reason = one_line(errors[0], None).partition(". ")[0][:200]
    raise ModelFolderError(
        f"there is no folder {model}, and the hub did not deliver a model of that name ({reason}): check the "
        "spelling, or pass the path of a downloaded folder"
    ) from errors[0]


def needed(files: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Of the files of a repository those to fetch: one format of weights a folder, nothing of other engines.

    Args:
        files: paths in the repository.
        patterns: what may be fetched; a star also matches slashes.
    """
    paths = [
        PurePosixPath(file)
        for file in files
        if any(fnmatchcase(file, pattern) for pattern in patterns)
        and not _OTHER_ENGINES.intersection(PurePosixPath(file).parts[:-1])
    ]
    safe = {path.parent for path in paths if path.name in _SAFETENSORS}
    return [
        str(path)
        for path in paths
        if path.parent not in safe or not any(fnmatchcase(path.name, pattern) for pattern in _PICKLED)
    ]


def _snapshot(hub: Any, name: str, files: Sequence[str], revision: str | None, cache: str | None) -> Path:
    try:
        wanted = needed(hub.list_repo_files(name, revision=revision), files)
    except Exception as unreachable:
        try:
            found = hub.snapshot_download(
                name, revision=revision, cache_dir=cache, allow_patterns=list(files), local_files_only=True
            )
        except Exception:
            raise unreachable from None
        return Path(found)
    exact = [glob.escape(file) for file in wanted]
    return Path(hub.snapshot_download(name, revision=revision, cache_dir=cache, allow_patterns=exact))
