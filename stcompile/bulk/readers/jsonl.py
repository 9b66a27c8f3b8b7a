"""JSONL: an object a line; blank lines are none."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from stcompile.bulk.readers.records import Problem, RecordReader
from stcompile.bulk.readers.text import decoded


class JsonlReader(RecordReader):
    """One JSONL file. A byte order mark is no part of the first line."""

    def _split(self, lines: io.BufferedReader) -> Iterator[bytes]:
        for number, line in enumerate(lines):
            stripped = (line if number else line.removeprefix(codecs.BOM_UTF8)).strip()
            if stripped:
                yield stripped

    def _size(self, record: bytes) -> int:
        return len(record)

    def _parsed(self, record: bytes) -> Mapping[str, Any]:
        try:
            found = json.loads(decoded(record))
        except (ValueError, RecursionError) as error:
            raise Problem(f"not JSON ({str(error)[:100]})") from error
        if not isinstance(found, dict):
            raise Problem("not a JSON object")
        return found
