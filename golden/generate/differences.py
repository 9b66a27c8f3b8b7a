"""What a regenerated case has that the one before it had not, for whoever is to believe it from now on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np


def differences(before: Path, after: Path) -> Iterator[str]:
    """One line for each file that came, went or has other content; of vectors, how far they are apart.

    Args:
        before: a folder of a case, or a place where there is none.
        after: the same, made anew.
    """
    old, new = (
        {path.relative_to(home): path for path in sorted(home.rglob("*")) if path.is_file()} for home in (before, after)
    )
    for name in sorted({*old, *new}):
        if name not in new:
            yield f"{name} is gone"
        elif name not in old:
            yield f"{name} is new"
        elif old[name].read_bytes() != new[name].read_bytes():
            yield f"{name} {_apart(old[name], new[name])}"


def _apart(old: Path, new: Path) -> str:
    if new.suffix != ".npy":
        return "has other content"
    left, right = np.load(old), np.load(new)
    if left.shape != right.shape or left.dtype != right.dtype:
        return f"was {left.dtype} {left.shape}, is {right.dtype} {right.shape}"
    one, other = (np.nan_to_num(rows.astype(np.float64)).reshape(len(rows), -1) for rows in (left, right))
    rows = int((one != other).any(axis=1).sum())
    return f"differs in {rows} of {len(one)} rows, by {np.abs(one - other).max():.2g} at most"
