"""The text front ends of a stack, as an artifact carries them: a file and a `TextSpec` for each route."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from stcompile.manifest import TextSpec
from stcompile.stack.route import Route

_FILE = "tokenizer.json"


def front_ends(routes: Mapping[str, Route]) -> tuple[dict[str, TextSpec], dict[str, str]]:
    """What turns strings into the inputs of each route's graph.

    Returns:
        route name to the manifest's description, and file name to content; equal contents are one file.

    Raises:
        UnsupportedError: a front end does something the runtime cannot.
    """
    names: dict[str, str] = {}
    specs = {}
    for route_name, route in routes.items():
        spec, content = route.front.front_end(_FILE)
        name = names.setdefault(content, _FILE if not names else f"tokenizer_{len(names)}.json")
        specs[route_name] = dataclasses.replace(spec, tokenizer=name)
    return specs, {name: content for content, name in names.items()}
