"""Files that an engine has mapped into memory, and read once: not counted as this process's any longer."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

# Linux: the pages are read from the file again where somebody asks.
_MADV_DONTNEED = 4


def let_go(file: Path) -> None:
    """Takes the pages of every mapping of a file out of resident memory, where the system tells of mappings.

    A mapping that nothing writes to loses nothing: a page is there again, mostly from the system's cache of files, when
    it is read. What stays away is what was read once, as weights are that an engine keeps a copy of in its own order.
    """
    if sys.platform != "linux":
        return
    path = os.path.realpath(file)
    libc = ctypes.CDLL(None)
    with Path("/proc/self/maps").open(encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            span, rights, _, _, _, *name = line.rstrip("\n").split(maxsplit=5)
            if name == [path] and "w" not in rights:
                start, end = (int(part, 16) for part in span.split("-"))
                libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)
