"""Modules whose code comes with the model, or with a package the model names: imported only when they are trusted."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from stcompile.compiler.modules import CustomModule
from stcompile.compiler.stack.folder import Folder
from stcompile.errors import UnsupportedError


def load_custom(folder: Folder, type_path: str, path: str, name: str, known: type | None = None) -> CustomModule:
    """Imports a module's class and loads it from its folder, as sentence-transformers does with trust.

    Args:
        folder: the model.
        type_path: `file.Class` of a Python file in the model's root, or a dotted path into an installed package.
        path: the module's own folder, relative to the model.
        name: what to call the model in an error.
        known: the class itself, where the model is a live object that uses it.

    Raises:
        UnsupportedError: there is no such class, or its code fails.
    """
    try:
        kind = known or _class(folder, type_path)
        inner = _load(kind, folder, path)
    except Exception as error:  # it is somebody else's code
        detail = " ".join(str(error).split())[:300]
        raise UnsupportedError(
            name, [f"its custom module {type_path} fails to load ({type(error).__name__}: {detail})"]
        ) from error
    if not isinstance(inner, nn.Module):
        raise UnsupportedError(name, [f"its custom module {type_path} is not a torch.nn.Module"])
    return CustomModule(inner.eval(), type_path)


def _class(folder: Folder, type_path: str) -> Any:
    file, _, name = type_path.rpartition(".")
    if "." not in file and folder.inside(f"{file}.py").is_file():
        return get_class_from_dynamic_module(type_path, str(folder.root), local_files_only=True)
    return getattr(importlib.import_module(file), name)


def _load(kind: Any, folder: Folder, path: str) -> Any:
    """The two signatures of `load`: that of sentence-transformers 5.0 and later, and the older one of a folder."""
    try:
        return kind.load(str(folder.root), subfolder=path, local_files_only=True, trust_remote_code=True)
    except TypeError:
        return kind.load(str(folder.inside(path)))
