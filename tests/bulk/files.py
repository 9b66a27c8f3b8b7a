"""The same rows in every format that is read, and what a job left."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from stcompile.bulk.journal import REJECTS, SUMMARY

Row = dict[str, Any]


def parquet(path: Path, rows: Sequence[Row], **options: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path, **options)
    return path


def jsonl(path: Path, rows: Sequence[Row]) -> Path:
    path.write_bytes(_lines(rows))
    return path


def jsonl_gz(path: Path, rows: Sequence[Row]) -> Path:
    path.write_bytes(gzip.compress(_lines(rows)))
    return path


def jsonl_zst(path: Path, rows: Sequence[Row]) -> Path:
    with pa.CompressedOutputStream(pa.OSFile(str(path), "wb"), "zstd") as stream:
        stream.write(_lines(rows))
    return path


def csv_table(path: Path, rows: Sequence[Row]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        # TSV has no quotes.
        dialect: Any = {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None}
        writer = csv.DictWriter(stream, list(rows[0]), **(dialect if path.suffix == ".tsv" else {}))
        writer.writeheader()
        writer.writerows(rows)
    return path


# Endings and who writes them.
FORMATS: dict[str, Callable[[Path, Sequence[Row]], Path]] = {
    "parquet": parquet,
    "jsonl": jsonl,
    "jsonl.gz": jsonl_gz,
    "jsonl.zst": jsonl_zst,
    "csv": csv_table,
    "tsv": csv_table,
}


def _lines(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def rows_of(output: Path) -> pa.Table:
    """What another program reads there."""
    return ds.dataset(str(output), format="parquet").to_table()


def vectors_of(table: pa.Table, column: str = "embedding") -> npt.NDArray[Any]:
    return np.stack(table[column].to_numpy(zero_copy_only=False))


def rejects_of(output: Path) -> list[tuple[str, int | None, str]]:
    path = output / REJECTS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    return [(Path(item["file"]).name, item["row"], item["reason"]) for item in found]


def summary_of(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / SUMMARY).read_text(encoding="utf-8"))
    return found


def bytes_of(output: Path) -> dict[str, bytes]:
    """All that a job wrote but for its lock."""
    files = [path for path in output.rglob("*") if path.is_file() and path.name != "lock"]
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in files}


def descendants(pid: int) -> list[int]:
    """A process and all below it."""
    lines = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.splitlines()
    pairs = [(int(child), int(parent)) for child, parent in (line.split() for line in lines)]
    found = [pid]
    for parent in found:
        found += [child for child, of in pairs if of == parent]
    return found
