"""Changes of a real file, as many and as strange as the fuzzer asks for."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar


class Provider(Protocol):
    """atheris.FuzzedDataProvider: decisions that the fuzzer makes, and remembers where one led somewhere new."""

    def ConsumeIntInRange(self, low: int, high: int) -> int: ...

    def ConsumeBytes(self, count: int) -> bytes: ...

    def ConsumeUnicode(self, count: int) -> str: ...

    def ConsumeUnicodeNoSurrogates(self, count: int) -> str: ...

    def remaining_bytes(self) -> int: ...


Item = TypeVar("Item")

# Every kind of value JSON has, at the edges of what a field may hold.
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 2**16, 2**31 - 1, 2**31, 2**53, 2**63, -(2**63), 10**400),
    *(0.0, -0.5, 1e308, -1e308, 1e-320, float("nan"), float("inf")),
    *("", "x", "../x", "/etc/hostname", "a\0b", "\ud800", "query", "cls", "mean", "max", "right", "left", "[/x]"),
    *([], {}, [[]], {"": {}}, ["x"], {"query": 5}),
)
_LONG = "x" * 100_000
_DEEP: Any = None
for _ in range(200):
    _DEEP = [_DEEP]


def one_of(items: Sequence[Item], data: Provider) -> Item:
    """One of some things."""
    return items[data.ConsumeIntInRange(0, len(items) - 1)]


def changed_json(body: Any, data: Provider) -> Any:
    """A JSON value with one to four of its places replaced, removed, doubled, or put in another's place."""
    found = copy.deepcopy(body)
    for _ in range(data.ConsumeIntInRange(1, 4)):
        holder, key = _place(found, data)
        if holder is None:
            continue
        way = data.ConsumeIntInRange(0, 7)
        if way == 0:
            holder.pop(key)
        elif way == 1 and isinstance(holder, list):
            holder.extend([holder[key]] * data.ConsumeIntInRange(1, 64))
        elif way == 1:
            holder[data.ConsumeUnicodeNoSurrogates(8)] = holder[key]
        elif way == 2:
            other, place = _place(found, data)
            holder[key] = copy.deepcopy(holder[key] if other is None else other[place])
        elif way == 3:
            holder[key] = data.ConsumeUnicode(24)
        elif way == 4:
            holder[key] = data.ConsumeIntInRange(-(2**63), 2**63 - 1)
        elif way == 5 and isinstance(holder[key], str):
            holder[key] = changed_text(holder[key], data)
        else:
            holder[key] = copy.deepcopy(one_of((*_VALUES, _LONG, _DEEP), data))
    return found


def changed_bytes(content: bytes, data: Provider) -> bytes:
    """Bytes with one to eight stretches overwritten, removed, put in, doubled, or everything behind one cut off."""
    found = bytearray(content)
    for _ in range(data.ConsumeIntInRange(1, 8)):
        start = data.ConsumeIntInRange(0, len(found))
        count = data.ConsumeIntInRange(1, 16)
        way = data.ConsumeIntInRange(0, 8)
        if way <= 4:
            new = data.ConsumeBytes(count)
            found[start : start + len(new)] = new
        elif way == 5:
            del found[start : start + count]
        elif way == 6:
            found[start:start] = data.ConsumeBytes(count)
        elif way == 7:
            found[start:start] = found[start : start + 16 * count]
        else:
            del found[start:]
    return bytes(found)


def changed_text(text: str, data: Provider) -> str:
    """A text with a few characters put in, removed, or in another order."""
    start = data.ConsumeIntInRange(0, len(text))
    end = data.ConsumeIntInRange(start, min(len(text), start + 16))
    return text[:start] + data.ConsumeUnicode(8) + text[end:]


def _place(body: Any, data: Provider) -> tuple[Any, Any]:
    """A place anywhere in a JSON value: what holds it, and its key; nothing where there is none."""
    holder, key = None, None
    while isinstance(body, (dict, list)) and body:
        keys = list(body) if isinstance(body, dict) else range(len(body))
        chosen: Any = one_of(keys, data)
        holder, key, body = body, chosen, body[chosen]
        if not data.ConsumeIntInRange(0, 3):
            break
    return holder, key
