"""What a case is: one model folder, and the runs recorded from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from golden.generate.builder import FolderBuilder


@dataclass(frozen=True)
class Case:
    """One golden model: what it covers, and how its folder and its runs are made."""

    covers: str
    build: Callable[[FolderBuilder], None]
