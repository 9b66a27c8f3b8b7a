"""Tables of text: how CSV and TSV are written, and rows with values of any length."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

# By the ending of a file's name, without its dot. TSV has no quotes: a tab ends a value, a line end a row.
DIALECTS: dict[str, dict[str, Any]] = {
    "csv": {"delimiter": ",", "quoting": csv.QUOTE_MINIMAL},
    "tsv": {"delimiter": "\t", "quoting": csv.QUOTE_NONE},
}

# Python stops at 128 KiB, which a document may have.
_LONGEST = 1 << 30


def long_rows(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    """The rows of a `csv.reader`, with values of up to 1 GiB.

    Python's limit is one for the whole process, and stays for everybody else.
    """
    while True:
        limit = csv.field_size_limit(_LONGEST)
        try:
            row = next(reader, None)
        finally:
            csv.field_size_limit(limit)
        if row is None:
            return
        yield row


def is_blank(row: list[str]) -> bool:
    """Whether a row holds nothing but spaces."""
    return not any(map(str.strip, row))
