"""Many texts: files in and files out, and what encodes the batches of a pipeline.

Public names are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from stcompile.extras import require

__all__ = ["BatchEncoder", "BulkOptions", "Engine", "Outcome", "encode_files"]

if TYPE_CHECKING:
    from stcompile.bulk.batch import BatchEncoder
    from stcompile.bulk.job import Engine, Outcome, encode_files
    from stcompile.bulk.options import BulkOptions

_HOMES = {"BatchEncoder": "batch", "BulkOptions": "options", "Engine": "job", "Outcome": "job", "encode_files": "job"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'stcompile.bulk' has no attribute {name!r}")
    if name != "BatchEncoder":
        require("pyarrow", "Encoding files")
        require("fsspec", "Encoding files")
    return getattr(importlib.import_module(f"stcompile.bulk.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
