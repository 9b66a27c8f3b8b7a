"""Folders that other libraries read, of which each is an artifact of ours all the same.

Files get the names that a library looks for, and what it wants besides lies beside them; the manifest lists all.
"""

from __future__ import annotations

from stcompile.compiler.layouts import optimum, transformers_js
from stcompile.compiler.layouts.base import Layout, Shape, with_outputs
from stcompile.errors import InputError

__all__ = ["LAYOUTS", "Layout", "Shape", "layout_of", "with_outputs"]

LAYOUTS: dict[str, Layout] = {"transformers.js": transformers_js, "optimum": optimum}


def layout_of(name: str) -> Layout:
    """The layout of that name.

    Raises:
        InputError: there is none.
    """
    if name not in LAYOUTS:
        raise InputError(f"unknown layout {name!r}: choose one of {', '.join(LAYOUTS)}, or leave it out")
    return LAYOUTS[name]
