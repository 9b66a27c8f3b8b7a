"""Shards to files: one writer a format, by this table."""

from __future__ import annotations

from collections.abc import Callable

from stcompile.bulk.writers.base import Writer
from stcompile.bulk.writers.lance import DATASET, LanceWriter
from stcompile.bulk.writers.npy import NpyWriter
from stcompile.bulk.writers.parquet import ParquetWriter

WRITERS: dict[str, Callable[[str], Writer]] = {"parquet": ParquetWriter, "npy": NpyWriter, "lance": LanceWriter}

# Folders that writers make in an output, beside the files of the shards.
FOLDERS = (DATASET,)


def writer_of(format: str, into: str) -> Writer:
    """What writes a format.

    Raises:
        MissingExtraError: its package is not installed.
        InputError: it takes no column of that name.
    """
    return WRITERS[format](into)
