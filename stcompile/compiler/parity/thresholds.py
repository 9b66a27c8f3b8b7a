"""What a caller allows, by name, in the place of the target's tolerance: on the command line or in pyproject.toml."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stcompile.artifact.target import Tolerance
from stcompile.errors import InputError
from stcompile.runtime.arguments import is_number

PYPROJECT = "pyproject.toml"


@dataclass(frozen=True)
class Thresholds:
    """Bounds that a caller sets; None leaves one as the target has it.

    Attributes:
        min_cosine: smallest cosine of any text's two vectors, 0 to 1. Where it is set, the largest error is judged only
            where it is set too, and the smallest mean is the same unless it is set.
        mean_cosine: smallest mean of those.
        max_abs_error: largest difference of any component, on vectors of length 1.
        batch_invariance: smallest cosine of a text's vectors alone and in a batch.
        neighbour_overlap: smallest share of the ten nearest texts that both agree on; no target has one.

    Raises:
        InputError: one is no number from 0 to 1, or an error no number from 0 on.
    """

    min_cosine: float | None = None
    mean_cosine: float | None = None
    max_abs_error: float | None = None
    batch_invariance: float | None = None
    neighbour_overlap: float | None = None

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            most = float("inf") if name == "max_abs_error" else 1
            if value is not None and (not is_number(value) or not 0 <= value <= most):
                raise InputError(f"{name} must be a number from 0 {'on' if most > 1 else 'to 1'}, got {value!r}")

    def applied(self, tolerance: Tolerance) -> Tolerance:
        """A tolerance with these bounds in the place of its own; `min_cosine` is applied by whoever makes it."""
        names = ("mean_cosine", "max_abs_error", "batch_invariance", "neighbour_overlap")
        return dataclasses.replace(
            tolerance, **{name: value for name in names if (value := getattr(self, name)) is not None}
        )

    def over(self, others: Thresholds) -> Thresholds:
        """These, and what they leave open as others have it."""
        return Thresholds(
            **{
                name: getattr(others, name) if value is None else value
                for name, value in dataclasses.asdict(self).items()
            }
        )


def thresholds_in(folder: Path) -> Thresholds:
    """Those of `[tool.stcompile]` in the `pyproject.toml` of a folder, or of the nearest one above it that has one.

    Raises:
        InputError: the file cannot be read, or has a name that is none of these.
    """
    for place in (folder, *folder.parents):
        file = place / PYPROJECT
        if file.is_file():
            return _read(file)
    return Thresholds()


def _read(file: Path) -> Thresholds:
    try:
        found: Any = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {error}") from error
    table = found.get("tool", {}).get("stcompile", {}) if isinstance(found.get("tool", {}), Mapping) else {}
    if not isinstance(table, Mapping):
        raise InputError(f"[tool.stcompile] in {file} is no table")
    known = {field.name.replace("_", "-"): field.name for field in dataclasses.fields(Thresholds)}
    unknown = [name for name in table if name.replace("_", "-") not in known]
    if unknown:
        raise InputError(f"[tool.stcompile] in {file} has {', '.join(unknown)}: it may have {', '.join(known)}")
    try:
        return Thresholds(**{known[name.replace("_", "-")]: value for name, value in table.items()})
    except InputError as error:
        raise InputError(f"[tool.stcompile] in {file}: {error}") from error
