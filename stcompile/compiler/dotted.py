"""Dotted names, as modules and their weights have them."""

from __future__ import annotations

from collections.abc import Sequence


def split_shared(names: Sequence[str]) -> tuple[str, list[str]]:
    """The parts that all names begin with, and what is left of each: at least one part.

    Args:
        names: at least one; a single one shares nothing.

    Returns:
        `a.b` and `["c", "d"]` of `a.b.c` and `a.b.d`; an empty text and the names themselves where nothing is shared.
    """
    if len(names) == 1:
        return "", list(names)
    parts = [name.split(".") for name in names]
    depth = 0
    while all(len(part) > depth + 1 and part[depth] == parts[0][depth] for part in parts):
        depth += 1
    return ".".join(parts[0][:depth]), [".".join(part[depth:]) for part in parts]
