"""Router: `router_config.json` and the older `config.json` of Asym, checked and parsed (spec section 11.1)."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from stcompile.compiler.kinds.base import Config, ModuleType, keep, type_paths

RouteKey = tuple[str | None, str | tuple[str, ...] | None]

# A key is a pair of short names; a longer one would only cost the parser its stack.
_LONGEST_KEY = 300


def _problems(config: Config) -> Iterator[str]:
    types, structure = config.get("types"), config.get("structure")
    parameters = config.get("parameters") or {}
    if not _is_text_map(types) or not isinstance(structure, dict) or not structure or not isinstance(parameters, dict):
        yield "its router_config.json must have types, structure and parameters: copy the model again"
        return
    assert isinstance(types, dict)
    strange = [key for key in types if not PurePosixPath(key).parts]
    if strange:
        yield f"its module {strange[0]!r} is not in a folder of its own: copy the model again"
    for route, ids in structure.items():
        if not isinstance(ids, list) or not ids or not all(isinstance(item, str) and item in types for item in ids):
            yield f"its route {route!r} must be a list of modules named in types: copy the model again"
    default = parameters.get("default_route")
    if default is not None and (not isinstance(default, str) or default not in structure):
        yield f"its default_route {default!r} is not a route: the routes are {', '.join(structure)}"
    if not isinstance(parameters.get("allow_empty_key", True), bool):
        yield "its allow_empty_key must be true or false"
    stored = parameters.get("route_mappings") or {}
    if not _is_text_map(stored):
        yield "its route_mappings must map keys to routes: copy the model again"
        return
    for key, route in stored.items():
        if _parsed(key) is None:
            yield f"its route mapping {key[:50]!r} is not a pair of a task and a modality: correct router_config.json"
        if route not in structure:
            yield f"its route mapping {key[:50]!r} names {route!r}, which is not a route: correct router_config.json"


def arguments(config: Config) -> Config:
    """The keyword arguments of `Router`, of a checked configuration."""
    parameters = _parameters(config)
    keys = {_parsed(key): route for key, route in (parameters.get("route_mappings") or {}).items()}
    return {
        "default_route": parameters.get("default_route"),
        "allow_empty_key": parameters.get("allow_empty_key", True),
        "route_mappings": {key: route for key, route in keys.items() if key is not None},
    }


def _routes(config: Config) -> Mapping[str, Sequence[tuple[str, str]]]:
    return {name: [(key, config["types"][key]) for key in ids] for name, ids in config["structure"].items()}


def _parameters(config: Config) -> Config:
    """What its routes do not show."""
    found = config.get("parameters")
    return found if isinstance(found, dict) else {}


def _is_text_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _parsed(text: str) -> RouteKey | None:
    """A key such as `"('query', None)"`, which sentence-transformers writes with `str` and reads as a literal."""
    try:
        key = ast.literal_eval(text) if len(text) <= _LONGEST_KEY else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(key, tuple) or len(key) != 2:
        return None
    task, modality = key
    if not isinstance(task, (str, type(None))):
        return None
    if isinstance(modality, tuple):
        return (task, tuple(sorted(modality))) if all(isinstance(name, str) for name in modality) else None
    return (task, modality) if isinstance(modality, (str, type(None))) else None


KIND = ModuleType(
    "Router",
    "router",
    type_paths("Asym", "router"),
    config_files=("router_config.json", "config.json"),
    normalized=keep("types", "structure", "parameters"),
    problems=_problems,
    routes=_routes,
    shown=_parameters,
    keywords="ignored",
)
