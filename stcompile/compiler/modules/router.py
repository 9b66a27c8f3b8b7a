"""Router: another list of modules for each task, e.g. a light one for queries and a heavy one for documents."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import nn

from stcompile.compiler.kinds.router import KIND, arguments
from stcompile.compiler.modules.base import Features, Module, SavedModule
from stcompile.errors import InputError

RouteMappings = Mapping[tuple[str | None, str | tuple[str, ...] | None], str]


class Router(Module):
    """Runs the modules of one route (module-stack spec, section 11); `Asym` is its name before 5.0.

    A `ModuleStack` lays every route out as a list of its own, so nothing is chosen inside a graph.

    Args:
        sub_modules: route name to its modules; one module may be in several routes.
        default_route: the route when no task is given.
        allow_empty_key: take the first route as the default when `default_route` is None.
        route_mappings: (task, modality) to route, either of the two None for any; wins over route names.

    Raises:
        InputError: no routes, an empty route, or a default or mapping that names none of them.
    """

    config_file: ClassVar[str] = KIND.config_files[0]
    save_in_root: ClassVar[bool] = True

    def __init__(
        self,
        sub_modules: Mapping[str, Sequence[Module]],
        default_route: str | None = None,
        allow_empty_key: bool = True,
        route_mappings: RouteMappings | None = None,
    ) -> None:
        super().__init__()
        named = [*(route_mappings or {}).values(), *([] if default_route is None else [default_route])]
        if not all(isinstance(key, tuple) and len(key) == 2 for key in route_mappings or {}):
            raise InputError("Router: the keys of route_mappings must be pairs of a task and a modality")
        strangers = [name for name in named if name not in sub_modules]
        if not sub_modules or not all(sub_modules.values()) or strangers:
            problem = f"there is no route {strangers[0]!r}" if strangers else "a route needs at least one module"
            raise InputError(f"Router: {problem}; its routes are {', '.join(sub_modules) or 'none'}")
        self.routes = {name: tuple(modules) for name, modules in sub_modules.items()}
        unique = dict.fromkeys(module for modules in self.routes.values() for module in modules)
        self.blocks = nn.ModuleList(unique)
        self.default_route = next(iter(self.routes)) if allow_empty_key and default_route is None else default_route
        self.allow_empty_key = allow_empty_key
        self.route_mappings = dict(route_mappings or {})

    @classmethod
    def build(cls, saved: SavedModule) -> Self:
        return cls(saved.routes, **arguments(saved.entry.config))

    @property
    def modality(self) -> str:
        return "text"

    @classmethod
    def for_query_document(
        cls,
        query_modules: Sequence[Module],
        document_modules: Sequence[Module],
        default_route: str | None = "document",
        allow_empty_key: bool = True,
    ) -> Self:
        """The usual asymmetric model: `encode_query` and `encode_document` take a route each."""
        return cls({"query": query_modules, "document": document_modules}, default_route, allow_empty_key)

    def route(self, task: str | None, modality: str | None) -> str | None:
        """The route of a task (spec section 11.2); None where sentence-transformers raises an error.

        Args:
            task: what `encode(task=...)` was given.
            modality: `text` or `message`; None where the first module of the stack does not say.
        """
        for key in ((task, modality), (task, None), (None, modality), (None, None)):
            if key in self.route_mappings:
                return self.route_mappings[key]
        for name in (task, modality):
            if name is not None and name in self.routes:
                return name
        return self.default_route if task is None else None

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task that is named somewhere: routes and mappings."""
        mapped = [task for task, _ in self.route_mappings if task is not None]
        return tuple(dict.fromkeys([*self.routes, *mapped]))

    def forward(self, features: Features) -> Features:
        raise InputError("a Router runs inside a ModuleStack, which lays out its routes")

    def get_config(self) -> dict[str, Any]:
        mappings = {str(key): route for key, route in self.route_mappings.items()}
        return {
            "default_route": self.default_route,
            "allow_empty_key": self.allow_empty_key,
            **({"route_mappings": mappings} if mappings else {}),
        }

    def summary(self) -> dict[str, Any]:
        structure = {
            name: [{"type": type(module).__name__, "config": module.summary()} for module in modules]
            for name, modules in self.routes.items()
        }
        return {**self.get_config(), "structure": structure}

    def save(self, folder: Path) -> None:
        """Writes each module once, in a folder beside `router_config.json`, whatever number of routes it is in."""
        folder.mkdir(parents=True, exist_ok=True)
        ids: dict[Module, str] = {}
        for name, modules in self.routes.items():
            for position, module in enumerate(modules):
                ids.setdefault(module, f"{name}_{position}_{type(module).__name__}")
        for module, identifier in ids.items():
            module.save(folder / identifier)
        content = {
            "types": {identifier: module.type_path for module, identifier in ids.items()},
            "structure": {name: [ids[module] for module in modules] for name, modules in self.routes.items()},
            "parameters": self.get_config(),
        }
        (folder / self.config_file).write_text(json.dumps(content, indent=4), encoding="utf-8")
