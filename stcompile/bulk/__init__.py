"""Many texts: files in and files out, and what encodes the batches of a pipeline.

Public names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["BatchEncoder"]

if TYPE_CHECKING:
    from stcompile.bulk.batch import BatchEncoder


def __getattr__(name: str) -> object:
    if name == "BatchEncoder":
        from stcompile.bulk.batch import BatchEncoder  # noqa: PLC0415 - numpy and the runtime, for who asks

        return BatchEncoder
    raise AttributeError(f"module 'stcompile.bulk' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
