"""Files in, files out, of several vectors a text: each format has those of sentence-transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stcompile.bulk import BulkOptions, encode_files
from stcompile.errors import InputError
from tests.bulk.files import parquet, rows_of
from tests.conftest import Compiled, load_case

CASE = "multi_vector_fixed"
# As tests/test_golden_multi_vectors.py.
ROUNDING = 2e-6
KNOWN = [(place, text) for place, text in enumerate(load_case(CASE).texts) if text.strip()]
ROWS = [{"id": f"n{place}", "text": text} for place, text in KNOWN]
EXPECTED = [load_case(CASE).ragged("encode_document")[place] for place, _ in KNOWN]
OPTIONS: dict[str, Any] = {"id": "id", "shard_rows": 7, "task": "document"}


def test_parquet(tmp_path: Path, compiled: Compiled) -> None:
    file = parquet(tmp_path / "a.parquet", ROWS)
    encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "out"), BulkOptions(**OPTIONS))
    table = rows_of(tmp_path / "out")
    assert table["id"].to_pylist() == [row["id"] for row in ROWS]
    assert pa.types.is_fixed_size_list(table.schema.field("embedding").type.value_type)
    for found, expected in zip(table["embedding"].to_pylist(), EXPECTED, strict=True):
        np.testing.assert_allclose(np.array(found, np.float32).reshape(expected.shape), expected, atol=ROUNDING)


def test_files_of_numpy(tmp_path: Path, compiled: Compiled) -> None:
    file = parquet(tmp_path / "a.parquet", ROWS)
    options = BulkOptions(**OPTIONS, format="npy")
    encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "out"), options)
    texts: dict[str, Any] = {}
    for path in sorted((tmp_path / "out").glob("*.npz")):
        names = np.load(path.with_suffix("").with_suffix(".ids.npy"))
        with np.load(path) as found:
            texts |= dict(zip(names.tolist(), np.split(found["vectors"], found["offsets"][1:-1]), strict=True))
    assert len(texts) == len(ROWS)
    for row, expected in zip(ROWS, EXPECTED, strict=True):
        np.testing.assert_allclose(texts[row["id"]], expected, atol=ROUNDING)


def test_a_shard_without_a_text(tmp_path: Path, compiled: Compiled) -> None:
    file = parquet(tmp_path / "a.parquet", [{"id": "nothing", "text": None}] * 7 + ROWS[:2])
    encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "out"), BulkOptions(**OPTIONS))
    assert rows_of(tmp_path / "out")["id"].to_pylist() == [row["id"] for row in ROWS[:2]]
    assert len((tmp_path / "out" / "_rejects.jsonl").read_text("utf-8").splitlines()) == 7


@pytest.mark.parametrize("wrong", [{"precision": "int8"}, {"truncate_dim": 4}, {"max_active_dims": 4}])
def test_what_is_of_one_vector_is_refused(wrong: dict[str, Any], tmp_path: Path, compiled: Compiled) -> None:
    file = parquet(tmp_path / "a.parquet", ROWS)
    (name,) = wrong
    with pytest.raises(InputError, match=f"is a multi-vector encoder, and {name} is of a"):
        encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "out"), BulkOptions(**OPTIONS, **wrong))
