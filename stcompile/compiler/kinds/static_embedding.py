"""StaticEmbedding."""

from __future__ import annotations

from collections.abc import Iterable

from stcompile.compiler.kinds.base import Config, ModuleType
from stcompile.compiler.kinds.folder import Folder
from stcompile.errors import ModelFolderError


def file_problems(folder: Folder, path: str, config: Config) -> Iterable[str]:
    """Nothing, or an error where a file is missing; what model2vec writes has the same files.

    Raises:
        ModelFolderError: there is no tokenizer or no table.
    """
    home = folder.inside(path)
    for names in (("tokenizer.json",), ("model.safetensors", "pytorch_model.bin")):
        if not any((home / name).is_file() for name in names):
            raise ModelFolderError(f"{home} has no {names[0]}: the model is incomplete, copy it again")
    return ()


KIND = ModuleType(
    "StaticEmbedding",
    "static_embedding",
    config_files=(),
    file_problems=file_problems,
    reads_text=True,
    keywords="ignored",
)
