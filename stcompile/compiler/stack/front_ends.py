"""The text front ends of a stack, as an artifact carries them: a file and a `TextSpec` for each route."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from stcompile.artifact.manifest import TextSpec
from stcompile.compiler.stack.route import Route

# What a front end's file is called, by its kind; the others hold a tokenizer of the tokenizers library.
_FILES = {"words": "words", "bow": "words"}


def front_ends(routes: Mapping[str, Route], *, length_multiple: int = 1) -> tuple[dict[str, TextSpec], dict[str, str]]:
    """What turns strings into the inputs of each route's graph.

    Args:
        routes: route name to route.
        length_multiple: what the engine wants the length of a padded row to be a multiple of.

    Returns:
        route name to the manifest's description, and file name to content; equal contents are one file.

    Raises:
        UnsupportedError: a front end does something the runtime cannot.
    """
    names: dict[str, str] = {}
    specs = {}
    for route_name, route in routes.items():
        spec, content = route.front_end("")
        number = f"_{len(names)}" if names else ""
        name = names.setdefault(content, f"{_FILES.get(spec.kind, 'tokenizer')}{number}.json")
        specs[route_name] = dataclasses.replace(spec, tokenizer=name, length_multiple=length_multiple)
    return specs, {name: content for content, name in names.items()}
