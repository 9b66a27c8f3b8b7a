"""Folders that other libraries read, of which each is an artifact of ours all the same.

Files get the names that a library looks for, and what it wants besides lies beside them; the manifest lists all.
"""

from __future__ import annotations

from stcompile.compiler.layouts import transformers_js
from stcompile.compiler.layouts.base import Layout, Shape
from stcompile.errors import InputError

__all__ = ["LAYOUTS", "Layout", "Shape", "layout_of"]

LAYOUTS: dict[str, Layout] = {"transformers.js": transformers_js}


def layout_of(name: str) -> Layout:
    """The layout of that name.

    Raises:
        InputError: there is none.
    """
    if name not in LAYOUTS:
        raise InputError(f"unknown layout {name!r}: choose one of {', '.join(LAYOUTS)}, or leave it out")
    return LAYOUTS[name]
