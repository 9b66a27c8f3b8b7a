"""StaticEmbedding."""

from __future__ import annotations

from collections.abc import Iterable

from stcompile.compiler.kinds.base import Config, ModuleType, type_paths
from stcompile.compiler.kinds.folder import Folder
from stcompile.errors import ModelFolderError


def check_files(folder: Folder, path: str) -> None:
    """Refuses a folder without a tokenizer or a table; what model2vec writes has the same files.

    Raises:
        ModelFolderError: one is missing.
    """
    home = folder.inside(path)
    for names in (("tokenizer.json",), ("model.safetensors", "pytorch_model.bin")):
        if not any((home / name).is_file() for name in names):
            raise ModelFolderError(f"{home} has no {names[0]}: the model is incomplete, copy it again")


def _file_problems(folder: Folder, path: str, config: Config) -> Iterable[str]:
    check_files(folder, path)
    return ()


KIND = ModuleType(
    "StaticEmbedding",
    "stcompile.compiler.modules.static_embedding:StaticEmbedding",
    type_paths("StaticEmbedding", "static_embedding"),
    config_files=(),
    file_problems=_file_problems,
    reads_text=True,
    keywords="ignored",
)
