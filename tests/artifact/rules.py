"""The rules of the fields of an artifact's files, for tests that try each of them."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Collection, Iterator
from typing import Any


def put(body: dict[str, Any], path: str, value: Any) -> None:
    """Sets what lies at `a.0.b` in a JSON value."""
    *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
    holder: Any = body
    for step in steps:
        holder = holder[step]
    holder[last] = value


def untried(kind: Any, paths: Collection[str]) -> set[str]:
    """Every field below a dataclass that has a rule beyond its type, and is not at one of the paths."""
    tried = {re.sub(r"\.\d*(?=\.|$)", "", path) for path in paths}
    return set(_ruled(kind, "")) - tried


def _ruled(kind: Any, where: str) -> Iterator[str]:
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        path = f"{where}.{name}" if where else name
        if path in ("graphs.text", "image.graph"):  # of the same type as another of the manifest's
            continue
        parts = [hint, *typing.get_args(hint)]
        if any(typing.get_origin(part) is typing.Annotated for part in parts):
            yield path
        for part in parts:
            if isinstance(part, type) and dataclasses.is_dataclass(part):
                yield from _ruled(part, path)
