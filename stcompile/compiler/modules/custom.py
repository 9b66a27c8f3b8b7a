"""A module whose code comes with the model, or with a package the model names, run as sentence-transformers runs it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import nn
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from stcompile.compiler.modules.base import Features, Module, SavedModule, named_tasks
from stcompile.errors import InputError, UnsupportedError, one_line


class CustomModule(Module):
    """Wraps an `nn.Module` that comes with a model (`trust_remote_code`), and is traced like ours.

    Args:
        inner: what takes and returns the feature dictionary of sentence-transformers (spec section 3).
        type_path: what modules.json calls it.

    Raises:
        InputError: it returns no dictionary, or is to be saved.
    """

    is_opaque: ClassVar[bool] = True

    def __init__(self, inner: nn.Module, type_path: str) -> None:
        super().__init__()
        self.inner = inner
        self._type_path = type_path

    @classmethod
    def build(cls, saved: SavedModule) -> Self:
        """Imports the class and loads it from its folder, as sentence-transformers does with trust.

        Raises:
            UnsupportedError: there is no such class, or its code fails.
        """
        try:
            inner = _load(saved.live.get(saved.entry.type_path.rpartition(".")[2]) or _class(saved), saved)
        except Exception as error:  # it is somebody else's code
            raise UnsupportedError(
                saved.model,
                f"its custom module {saved.entry.type_path} fails to load ({type(error).__name__}: {one_line(error)})",
            ) from error
        if not isinstance(inner, nn.Module):
            raise UnsupportedError(saved.model, f"its custom module {saved.entry.type_path} is not a torch.nn.Module")
        return cls(inner.eval(), saved.entry.type_path)

    @property
    def type_path(self) -> str:
        return self._type_path

    @property
    def all_keywords(self) -> tuple[str, ...]:
        """The keywords that modules.json or its class asks for."""
        return tuple(dict.fromkeys([*self.keywords, *self.own_keywords]))

    def called_with(self, task: str | None, modality: str | None, *, routed: bool) -> dict[str, Any]:
        if routed:
            known = {"task": task, "modality": modality}
            return {name: known[name] for name in self.own_keywords if name in known}
        return {"task": task} if task is not None and "task" in self.all_keywords else {}

    def reads_task(self, *, noted: bool) -> bool:
        # It may look for the task that a Router notes among the features.
        return noted or "task" in self.all_keywords

    def keywords_of_its_code(self, named: Sequence[str]) -> Sequence[str]:
        return [*named, *self.own_keywords]

    @property
    def task_names(self) -> tuple[str, ...]:
        return named_tasks(self.get_config())

    @property
    def own_keywords(self) -> tuple[str, ...]:
        """The keywords that its class asks for."""
        return tuple(sorted(getattr(self.inner, "forward_kwargs", ())))

    def forward(self, features: Features, **keywords: Any) -> Features:
        # The usual module changes the dictionary it is given; ours never do.
        result = self.inner(dict(features), **keywords)
        if not isinstance(result, dict):
            raise InputError(
                f"the custom module {self._type_path} returned {type(result).__name__}, not the feature dictionary"
            )
        return result

    def save(self, folder: Path) -> None:
        raise InputError(
            f"the custom module {self._type_path} cannot be saved with a stack, because its code is not part of it: "
            "keep the folder it came from"
        )

    def get_config(self) -> dict[str, Any]:
        described = getattr(self.inner, "get_config_dict", None)
        config = described() if callable(described) else {}
        return {"type": self._type_path, **(config if isinstance(config, dict) else {})}


def _class(saved: SavedModule) -> Any:
    """`file.Class` of a Python file in the model's root, or a dotted path into an installed package."""
    file, _, name = saved.entry.type_path.rpartition(".")
    if "." not in file and saved.folder.inside(f"{file}.py").is_file():
        return get_class_from_dynamic_module(saved.entry.type_path, str(saved.folder.root), local_files_only=True)
    return getattr(importlib.import_module(file), name)


def _load(kind: Any, saved: SavedModule) -> Any:
    """The two signatures of `load`: that of sentence-transformers 5.0 and later, and the older one of a folder."""
    try:
        return kind.load(
            str(saved.folder.root), subfolder=saved.entry.path, local_files_only=True, trust_remote_code=True
        )
    except TypeError:
        return kind.load(str(saved.home))
