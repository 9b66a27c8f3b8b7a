"""What a module type is: its names, its files, its configuration, and who builds it; and one module of a folder."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from stcompile.compiler.kinds.folder import Folder

Config = dict[str, Any]

_BUILDERS = "stcompile.compiler.modules"
OLD_PACKAGE = "sentence_transformers.models"
_PACKAGES = ("sentence_transformers.sentence_transformer.modules", "sentence_transformers.base.modules")


def type_paths(name: str, file: str) -> tuple[str, ...]:
    """What modules.json of any generation calls a class that is in that Python module since 5.4."""
    return (
        f"{OLD_PACKAGE}.{name}",
        f"{OLD_PACKAGE}.{name}.{name}",
        *(f"{package}.{name}" for package in _PACKAGES),
        # Normalize moved between the two packages in 6.0; both spellings are in published folders.
        *(f"{package}.{file}.{name}" for package in _PACKAGES),
    )


def sparse_paths(name: str, file: str) -> tuple[str, ...]:
    """What modules.json calls a class of sparse encoders: of releases up to 5.3, and since."""
    old, new = (f"sentence_transformers.sparse_encoder.{package}" for package in ("models", "modules"))
    return (f"{old}.{name}", f"{old}.{name}.{name}", f"{new}.{name}", f"{new}.{file}.{name}")


def multi_vector_paths(name: str, file: str) -> tuple[str, ...]:
    """What modules.json calls a class of multi-vector encoders, which came with 6.0."""
    package = "sentence_transformers.multi_vector_encoder.modules"
    return (f"{package}.{name}", f"{package}.{file}.{name}")


def keep(*keys: str, **renamed: str) -> Callable[[Config], Config]:
    """A reader of configurations that keeps the keys it names; `new="old"` also takes the name a key had before 5.4."""

    def normalized(config: Config) -> Config:
        older = {new: config[old] for new, old in renamed.items() if old in config}
        return {**older, **{key: config[key] for key in (*keys, *renamed) if key in config}}

    return normalized


@dataclass(frozen=True)
class ModuleType:
    """One module class of the format.

    Attributes:
        name: the class, e.g. `Pooling`.
        file: the Python module it is in, here and in sentence-transformers since 5.4.
        further_paths: what modules.json also calls it.
        builder: `file:Class` of the subclass of `Module` that builds it, where that is not the one of its name.
        config_files: names its configuration may have: the first that exists is read, the first is written.
        normalized: its configuration as read to one with today's keys only (module-stack spec, section 2.6), with what
            its generation left unsaid.
        problems: what is wrong with, or unsupported in, a normalized configuration; each ends in a remedy.
        file_problems: what cannot be compiled of the files beside the configuration, of the model, the module's folder
            in it and the configuration as read; raises ModelFolderError where some are missing.
        routes: of a checked configuration, route name to its modules, each a folder in the module's own and a type
            path; nothing but a Router has any.
        shown: of its configuration what `inspect` shows.
        reads_text: whether it turns text into features, and so stands first.
        keywords: what becomes of keywords that modules.json says it is called with: sentence-transformers fails
            (`refused`), the module looks at none (`ignored`), or it hands them on to code of the model (`read`).
        is_custom: whether its code comes with the model.
    """

    name: str
    file: str
    further_paths: tuple[str, ...] = ()
    builder: str = ""
    config_files: tuple[str, ...] = ("config.json",)
    normalized: Callable[[Config], Config] = lambda _: {}
    problems: Callable[[Config], Iterable[str]] = lambda _: ()
    file_problems: Callable[[Folder, str, Config], Iterable[str]] = lambda *_: ()
    routes: Callable[[Config], Mapping[str, Sequence[tuple[str, str]]]] = lambda _: {}
    shown: Callable[[Config], Config] = dict
    reads_text: bool = False
    keywords: Literal["refused", "ignored", "read"] = "refused"
    is_custom: bool = False

    @property
    def type_paths(self) -> tuple[str, ...]:
        """What modules.json calls it; nothing that is known before, where its code comes with the model."""
        return () if self.is_custom else (*type_paths(self.name, self.file), *self.further_paths)

    def imported(self) -> Any:
        """The class that builds it, a `Module`; only this needs torch."""
        return pkgutil.resolve_name(f"{_BUILDERS}.{self.builder or f'{self.file}:{self.name}'}")


@dataclass(frozen=True)
class ModuleEntry:
    """One row of modules.json, or one module in a Router, resolved.

    Attributes:
        position: place in the stack, from 0.
        kind: its type.
        path: the module's folder, relative to the model; empty for the root.
        config: its configuration with today's keys.
        type_path: how the folder spells the class.
        routes: of a Router, route name to its modules.
        keywords: what modules.json says that it is called with.
    """

    position: int
    kind: ModuleType
    path: str
    config: Config
    type_path: str = ""
    routes: Mapping[str, tuple[ModuleEntry, ...]] = field(default_factory=dict)
    keywords: tuple[str, ...] = ()
