"""A module of the user's own, run as sentence-transformers runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from stcompile.compiler.modules.base import Features, Module, named_tasks
from stcompile.errors import InputError


class CustomModule(Module):
    """Wraps an `nn.Module` that comes with a model (`trust_remote_code`), and is traced like ours.

    Args:
        inner: what takes and returns the feature dictionary of sentence-transformers (spec section 3).
        type_path: what modules.json calls it.

    Raises:
        InputError: it returns no dictionary, or is to be saved.
    """

    def __init__(self, inner: nn.Module, type_path: str) -> None:
        super().__init__()
        self.inner = inner
        self._type_path = type_path

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
