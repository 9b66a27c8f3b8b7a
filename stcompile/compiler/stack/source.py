"""Where a model comes from: a folder, a hub id, or a live SentenceTransformer object."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stcompile.artifact import scratch
from stcompile.compiler import hub
from stcompile.errors import InputError
from stcompile.runtime.arguments import local_path

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")

# Everything a stack can be built from; leaves out training state.
# A star also matches slashes.
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.spm", "*.jinja", "*pytorch_model*.bin", "*.py"]


@contextlib.contextmanager
def located(model: Any, *, revision: str | None = None, cache_dir: str | None = None) -> Iterator[tuple[Path, str]]:
    """A folder with the model in it, and the model's name.

    Args:
        model: a folder, a hub id (without a slash one of sentence-transformers), or an object with the
            `save_pretrained` of a SentenceTransformer.
        revision: hub revision.
        cache_dir: where the hub's files are kept.

    Raises:
        ModelFolderError: there is no such folder, and the hub does not have it or cannot be reached.
        InputError: something else was given.
    """
    if isinstance(model, (str, Path)):
        path = local_path(model)
        if path.exists() or not _HUB_ID.fullmatch(str(model)):
            # realpath() ends where a link leads back to itself; what is there is for the reader of the folder to say.
            yield path, Path(os.path.realpath(path)).name
        else:
            yield hub.download(str(model), _HUB_FILES, revision=revision, cache_dir=cache_dir)
        return
    if not callable(getattr(model, "save_pretrained", None)):
        raise InputError(f"expected a model folder, a hub id or a SentenceTransformer, got {type(model).__name__}")
    with scratch("model") as folder:
        model.save_pretrained(str(folder), create_model_card=False)
        yield folder, type(model).__name__
