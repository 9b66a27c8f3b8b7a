"""Scored pairs of texts from a file: what a quality is measured on (STS-B and the like)."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from stcompile.errors import InputError
from stcompile.runtime.arguments import local_path
from stcompile.runtime.tables import DIALECTS, long_rows

# Two texts and how alike people find them; any scale, since only the order counts.
ScoredPair = tuple[str, str, float]

COLUMNS = ("sentence1", "sentence2", "score")


def read_scored_pairs(path: str, columns: Sequence[str] = COLUMNS) -> list[ScoredPair]:
    """Pairs from `.csv` or `.tsv` (sentence1, sentence2, score, with or without that header) or `.jsonl`.

    Args:
        path: the file.
        columns: what the two texts and the score are called; a table without a header has no other names.

    Raises:
        InputError: unreadable, not UTF-8, malformed, or fewer than two pairs.
    """
    file = local_path(path)
    ending = file.suffix.lower().removeprefix(".")
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            if ending in DIALECTS:
                reader = csv.reader(stream, strict=True, **DIALECTS[ending])
                pairs = list(_from_table(long_rows(reader), path, columns))
            elif ending in ("jsonl", "ndjson"):
                pairs = [
                    _pair([line.get(name) for name in columns], path, at, columns) for at, line in _objects(stream)
                ]
            else:
                raise InputError(f"cannot tell the format of {path}: name it .csv, .tsv or .jsonl")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason}): convert it first") from error
    except (OSError, csv.Error, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read: {error}") from error
    if len(pairs) < 2:
        raise InputError(f"{path} holds {len(pairs)} scored pairs: a rank correlation needs at least two")
    return pairs


def checked_pairs(pairs: Sequence[ScoredPair]) -> list[ScoredPair]:
    """The pairs themselves.

    Raises:
        InputError: one is not two texts and a finite number, or there are fewer than two.
    """
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 3 and _is_good(*pair) for pair in pairs):
        raise InputError("evaluation pairs must be (text, text, score)")
    if len(pairs) < 2:
        raise InputError("a rank correlation needs at least two scored pairs")
    return list(pairs)


def _is_good(first: object, second: object, score: object) -> bool:
    texts = isinstance(first, str) and isinstance(second, str)
    return texts and isinstance(score, (int, float)) and math.isfinite(score)


def _from_table(rows: Iterator[list[str]], path: str, columns: Sequence[str]) -> Iterator[ScoredPair]:
    places, wanted, width = [0, 1, 2], [name.lower() for name in columns], 0
    for number, row in enumerate(rows, start=1):
        names = [cell.strip().lower() for cell in row]
        if number == 1 and set(wanted) <= set(names):
            places, width = [names.index(name) for name in wanted], len(row)
        elif number == 1 and tuple(columns) != COLUMNS:
            raise InputError(f"{path} has no columns {', '.join(columns)} in its first row: name three that it has")
        elif row and width and len(row) != width:
            raise InputError(f"row {number} of {path} has {len(row)} values for {width} columns: check its quotes")
        elif row:
            yield _pair([row[place] if place < len(row) else None for place in places], path, number, columns)


def _objects(stream: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(stream, start=1):
        if line.strip():
            value = json.loads(line)
            yield number, value if isinstance(value, dict) else {}


def _pair(cells: list[Any], path: str, number: int, columns: Sequence[str]) -> ScoredPair:
    first, second, score = cells
    try:
        value = float(score)
    except (TypeError, ValueError):
        value = math.nan
    if isinstance(first, str) and isinstance(second, str) and math.isfinite(value):
        return first, second, value
    raise InputError(f"line {number} of {path} is not {', '.join(columns)}: two texts and a number")
