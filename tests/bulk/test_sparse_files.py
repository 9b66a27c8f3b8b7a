"""Files in, files out, of sparse vectors: each format has those of sentence-transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse

from stcompile.bulk import BatchEncoder, BulkOptions, Engine, encode_files
from stcompile.errors import ArtifactError, InputError
from tests.bulk.files import parquet, rows_of
from tests.conftest import Compiled, load_case

CASE = "sparse_splade"
# In proportion to a vector's largest number, as tests/test_golden_sparse.py.
ROUNDING = 9e-6
KNOWN = [(place, text) for place, text in enumerate(load_case(CASE).texts) if text.strip()]
ROWS = [{"id": f"n{place}", "text": text} for place, text in KNOWN]
EXPECTED = load_case(CASE).expected("five")[[place for place, _ in KNOWN]]
OPTIONS: dict[str, Any] = {"id": "id", "shard_rows": 7, "max_active_dims": 5}


def dense(table: pa.Table) -> npt.NDArray[np.float32]:
    found = np.zeros(EXPECTED.shape, np.float32)
    for place, row in enumerate(table["embedding"].to_pylist()):
        found[place, row["indices"]] = row["values"]
    return found


def assert_close(found: npt.NDArray[np.float32]) -> None:
    assert np.array_equal(found != 0, EXPECTED != 0)
    assert np.abs(found - EXPECTED).max() <= ROUNDING * EXPECTED.max()


@pytest.mark.parametrize("workers", [1, 2])
def test_parquet(workers: int, tmp_path: Path, compiled: Compiled) -> None:
    file = parquet(tmp_path / "a.parquet", ROWS)
    encode_files(
        str(compiled(CASE)),
        [str(file)],
        str(tmp_path / "out"),
        BulkOptions(**OPTIONS),
        engine=Engine(workers=workers),
    )
    table = rows_of(tmp_path / "out")
    assert table["id"].to_pylist() == [row["id"] for row in ROWS]
    assert_close(dense(table))
    part = pq.read_schema(next((tmp_path / "out").glob("part-*.parquet"))).field("embedding")
    assert part.type == pa.struct([("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float32()))])
    assert part.metadata[b"dim"] == b"341"


def test_files_that_scipy_reads(tmp_path: Path, compiled: Compiled) -> None:
    file = parquet(tmp_path / "a.parquet", ROWS)
    options = BulkOptions(**OPTIONS, format="npy")
    encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "out"), options)
    parts = sorted((tmp_path / "out").glob("part-*.npz"))
    assert len(parts) == -(-len(ROWS) // 7)
    assert_close(np.concatenate([scipy.sparse.load_npz(part).toarray() for part in parts]))
    ids = np.concatenate([np.load(part.with_suffix(".ids.npy")) for part in parts])
    assert ids.tolist() == [row["id"] for row in ROWS]


def test_lance(tmp_path: Path, compiled: Compiled) -> None:
    import lance

    file = parquet(tmp_path / "a.parquet", ROWS)
    encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "out"), BulkOptions(**OPTIONS, format="lance"))
    assert_close(dense(lance.dataset(str(tmp_path / "out" / "data.lance")).to_table()))


@pytest.mark.parametrize(
    ("case", "options", "says"),
    [
        (CASE, {"precision": "int8"}, "is a sparse encoder, and precision is of an encoder"),
        (
            CASE,
            {"normalize_embeddings": True, "truncate_dim": 3},
            "normalize_embeddings is of an encoder or a multi-vector encoder, truncate_dim",
        ),
        ("pool_mean", {"max_active_dims": 3}, "is an encoder, and max_active_dims is of a sparse encoder"),
        ("reranker_bert", {}, "a reranker makes no vectors"),
    ],
)
def test_options_of_another_kind_are_refused(
    case: str, options: dict[str, Any], says: str, tmp_path: Path, compiled: Compiled
) -> None:
    file = parquet(tmp_path / "a.parquet", ROWS)
    with pytest.raises(InputError, match=says):
        encode_files(str(compiled(case)), [str(file)], str(tmp_path / "out"), BulkOptions(id="id", **options))


def test_batches_of_other_programs_are_dense_alone(compiled: Compiled) -> None:
    with pytest.raises(ArtifactError, match="is a sparse encoder, not an encoder"):
        BatchEncoder(str(compiled(CASE)))({"text": np.array(["a"])})
