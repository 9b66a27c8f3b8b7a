"""Models from the hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stcompile.errors import ModelFolderError
from stcompile.extras import require


def download(model: str, files: Sequence[str], *, revision: str | None = None, cache_dir: str | None = None) -> Path:
    """Fetches the files of a model, or finds them in the hub's cache.

    Args:
        model: hub id.
        files: names, also with stars.
        revision: hub revision.
        cache_dir: where the hub's files are kept.

    Raises:
        ModelFolderError: the hub does not have it or cannot be reached.
    """
    hub = require("huggingface_hub", "Downloading a model from the hub")
    try:
        return Path(hub.snapshot_download(model, revision=revision, cache_dir=cache_dir, allow_patterns=list(files)))
    except Exception as error:  # the hub's client raises network errors of several libraries
        reason = " ".join(str(error).split()).partition(". ")[0][:200]
        raise ModelFolderError(
            f"there is no folder {model}, and the hub did not deliver a model of that name ({reason}): check the "
            "spelling, or pass the path of a downloaded folder"
        ) from error
