"""Files to rows: one reader a format, by this table."""

from __future__ import annotations

from collections.abc import Callable

from stcompile.bulk.inputs import InputFile
from stcompile.bulk.readers.base import Reader, Wanted
from stcompile.bulk.readers.csv import CsvReader
from stcompile.bulk.readers.jsonl import JsonlReader
from stcompile.bulk.readers.parquet import ParquetReader
from stcompile.bulk.readers.text import TextReader

READERS: dict[str, Callable[[InputFile, Wanted], Reader]] = {
    "parquet": ParquetReader,
    "jsonl": JsonlReader,
    "csv": CsvReader,
    "tsv": CsvReader,
    "text": TextReader,
}


def reader_of(file: InputFile, wanted: Wanted) -> Reader:
    """What reads a file."""
    return READERS[file.format](file, wanted)
