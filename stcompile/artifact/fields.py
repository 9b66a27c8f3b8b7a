"""What the fields of an artifact's files may hold, and how JSON becomes dataclasses: by type and range, or not."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import reprlib
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any, TypeVar

from stcompile.errors import ArtifactError

# Real files have about eight levels; Python's own limit would be met later, somewhere in the middle.
_DEEPEST = 64

_SHA256 = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


@dataclass(frozen=True)
class Rule:
    """What a field must be beyond its type: in words, and as a test of its value."""

    wanted: str
    allows: Callable[[Any], bool]


def whole(least: int, most: int) -> Rule:
    """A whole number within bounds, both included."""
    return Rule(f"a whole number from {least} to {most}", lambda value: least <= value <= most)


def from_on(least: float) -> Rule:
    """A finite number, no less than that."""
    return Rule(f"a number from {least:g}", lambda value: _is_finite(value) and value >= least)


def one_of(*names: str) -> Rule:
    """One of a few names."""
    return Rule(f"one of {', '.join(names)}", lambda value: value in names)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # JSON's whole numbers may have any number of digits
        return False


def _is_inside(value: str) -> bool:
    """Whether it is a path relative to the artifact, with slashes, spelt in the one way there is."""
    path = PurePosixPath(value)
    foreign = any(character in value for character in "\\:\0")
    return not (foreign or path.is_absolute() or ".." in path.parts or str(path) != value or not path.parts)


# Types with their rules; `built` keeps to both.
Count = Annotated[int, whole(0, 2**63 - 1)]
Dim = Annotated[int, whole(1, 2**31 - 1)]
Id = Annotated[int, whole(0, 2**31 - 1)]
Real = Annotated[float, Rule("a finite number", _is_finite)]
Sha256 = Annotated[str, Rule("64 hexadecimal digits", lambda value: _SHA256.fullmatch(value) is not None)]
FilePath = Annotated[str, Rule("a file inside the artifact", _is_inside)]


def to_json(body: dict[str, Any]) -> str:
    """The text of a file: the same for the same content. Raises `ValueError` for a number that is none."""
    return json.dumps(body, indent=2, ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n"


def canonical(body: Any) -> bytes:
    """The content in one spelling, whatever the file's: what a digest is of."""
    return json.dumps(body, ensure_ascii=False, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()


def read_json(text: str, name: str) -> Any:
    """The content of a file called `name`.

    Raises:
        ArtifactError: not JSON, or what JSON can spell and no release writes: too many levels, half a character, a
            number beyond floats.
    """
    try:
        body = json.loads(text, parse_constant=_no_constant)
        if _is_deeper(body, _DEEPEST):
            raise ArtifactError(f"{name} is malformed (more than {_DEEPEST} levels): export the model again")
        canonical(body)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{name} is not valid JSON ({error}): export the model again") from error
    return body


def built(kind: type[T], body: Any, name: str) -> T:
    """A dataclass of what a file called `name` holds; keys that it does not know are left alone.

    Raises:
        ArtifactError: a field is missing, or out of its type or range; its path is named, and what it must be.
    """
    try:
        return _build(kind, body, "")
    except _MalformedError as error:
        raise ArtifactError(f"{name} is malformed ({error}): export the model again") from error


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _is_deeper(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, list) and (levels == 0 or any(_is_deeper(item, levels - 1) for item in value))


class _MalformedError(Exception):
    """Which field is wrong, and what it must be."""


def _build(kind: type[T], body: Any, where: str) -> T:
    if not isinstance(body, dict):
        raise _wrong(where, "an object", body)
    hints = _hints(typing.cast(Any, kind))
    values = {}
    for item in dataclasses.fields(typing.cast(Any, kind)):
        name = f"{where}.{item.name}" if where else item.name
        if item.name in body:
            values[item.name] = _convert(hints[item.name], body[item.name], name)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise _MalformedError(f"{name} is missing")
    return kind(**values)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


# JSON's name of a type, and the types that are read as it.
_PLAIN: dict[Any, tuple[str, tuple[type, ...]]] = {
    str: ("text", (str,)),
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (float, int)),
}


def _convert(hint: Any, value: Any, where: str) -> Any:
    """A field's value by its type: what JSON says otherwise is refused."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is Annotated:
        rule = arguments[1]
        found = _convert(arguments[0], value, where)
        if not rule.allows(found):
            raise _wrong(where, rule.wanted, value)
        return found
    if origin in (typing.Union, types.UnionType):
        inner = next(arg for arg in arguments if arg is not type(None))
        return None if value is None else _convert(inner, value, where)
    if origin in (tuple, dict):
        return _convert_all(origin, arguments, value, where)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, where)
    wanted, kinds = _PLAIN[hint]
    if not isinstance(value, kinds) or (isinstance(value, bool) and hint is not bool):
        raise _wrong(where, wanted, value)
    return value


def _convert_all(origin: type, arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    """A list's items, or an object's values, by their type."""
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _convert(arguments[1], item, f"{where}.{reprlib.repr(key)}") for key, item in value.items()}
    raise _wrong(where, "a list" if origin is tuple else "an object", value)


def _wrong(where: str, wanted: str, value: Any) -> _MalformedError:
    return _MalformedError(f"{where or 'it'} must be {wanted}, got {reprlib.repr(value)}")
