"""SparseStaticEmbedding."""

from __future__ import annotations

from collections.abc import Iterator

from stcompile.compiler.kinds.base import Config, ModuleType, keep, sparse_paths
from stcompile.compiler.kinds.folder import Folder, join
from stcompile.compiler.kinds.network_files import tokenizer_problems
from stcompile.errors import ModelFolderError


def table_of(folder: Folder, path: str, config: Config) -> str | None:
    """Where the JSON file of weights by token is that a configuration may name: from the model's root, as
    sentence-transformers reads it, or beside the configuration; None where the weights are tensors.

    Raises:
        ModelFolderError: it is outside the folder.
    """
    named = config.get("path")
    if not isinstance(named, str) or not named.endswith(".json"):
        return None
    return next((name for name in (named, join(path, named)) if folder.inside(name).is_file()), named)


def _problems(config: Config) -> Iterator[str]:
    if not isinstance(config.get("path"), (str, type(None))):
        yield f"its path is {config['path']!r}: it must name a file of weights by token, or be left out"


def _file_problems(folder: Folder, path: str, config: Config) -> Iterator[str]:
    table, home = table_of(folder, path, config), folder.inside(path)
    if table is not None and not folder.inside(table).is_file():
        raise ModelFolderError(f"{folder.root} has no {table}, which holds its weights: copy the model again")
    if table is None and not any((home / name).is_file() for name in ("model.safetensors", "pytorch_model.bin")):
        raise ModelFolderError(f"{home} has no model.safetensors: the model is incomplete, copy it again")
    yield from tokenizer_problems(folder, path)


KIND = ModuleType(
    "SparseStaticEmbedding",
    "sparse_static_embedding",
    further_paths=sparse_paths("SparseStaticEmbedding", "sparse_static_embedding"),
    normalized=keep("path"),
    problems=_problems,
    file_problems=_file_problems,
    reads_text=True,
)
