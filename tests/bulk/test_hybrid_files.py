"""Files in, files out, of several kinds of vectors at once: those of FlagEmbedding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stcompile.bulk import BulkOptions, encode_files
from stcompile.errors import InputError
from tests.bulk.files import parquet, rows_of
from tests.conftest import Compiled, load_case
from tests.hybrid import ALL, CASE, recorded
from tests.test_golden_hybrid import ROUNDING, WEIGHTS_ROUNDING

KNOWN = [(place, text) for place, text in enumerate(load_case(CASE).texts) if text.strip()]
ROWS = [{"id": f"n{place}", "text": text} for place, text in KNOWN]
OPTIONS: dict[str, Any] = {"id": "id", "shard_rows": 7}


@pytest.mark.parametrize("form", ["parquet", "lance"])
def test_a_column_of_structs(form: str, tmp_path: Path, compiled: Compiled) -> None:
    file = parquet(tmp_path / "a.parquet", [{"id": "none", "text": None}, *ROWS])
    options = BulkOptions(**OPTIONS, format=form)
    encode_files(str(compiled(CASE, outputs=ALL)), [str(file)], str(tmp_path / "out"), options)
    if form == "lance":
        import lance

        (folder,) = (tmp_path / "out").glob("*.lance")
        table = lance.dataset(folder).to_table()
    else:
        table = rows_of(tmp_path / "out")
    expected = recorded()
    found = dict(zip(table["id"].to_pylist(), table["embedding"].to_pylist(), strict=True))
    assert len(found) == len(ROWS)
    for place, _ in KNOWN:
        row, weights = found[f"n{place}"], expected.sparse[place]
        np.testing.assert_allclose(row["dense"], expected.dense[place], atol=ROUNDING)
        assert row["sparse"]["indices"] == sorted(weights)
        np.testing.assert_allclose(
            row["sparse"]["values"], [weights[token] for token in sorted(weights)], atol=WEIGHTS_ROUNDING
        )
        np.testing.assert_allclose(row["multi_vector"], expected.multi_vector[place], atol=ROUNDING)


def test_dense_alone(tmp_path: Path, compiled: Compiled) -> None:
    file = parquet(tmp_path / "a.parquet", ROWS)
    options = BulkOptions(**OPTIONS, outputs=("dense",), precision="float16")
    encode_files(str(compiled(CASE, outputs=ALL)), [str(file)], str(tmp_path / "out"), options)
    found = np.array(rows_of(tmp_path / "out")["embedding"].to_pylist())
    np.testing.assert_allclose(found, recorded().dense[[place for place, _ in KNOWN]], atol=1e-3)


@pytest.mark.parametrize(
    ("outputs", "more", "says"),
    [
        (ALL, {"precision": "int8"}, "is a hybrid encoder, and precision is of an encoder: leave it out"),
        (ALL, {"format": "npy"}, "format npy is of an encoder"),
        (ALL, {"outputs": ("dense", "words")}, "outputs must be some of dense, sparse, multi_vector"),
        (None, {"outputs": ("dense",)}, "is an encoder, and outputs is of a hybrid encoder"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    outputs: tuple[str, ...] | None, more: dict[str, Any], says: str, tmp_path: Path, compiled: Compiled
) -> None:
    file = parquet(tmp_path / "a.parquet", ROWS)
    with pytest.raises(InputError, match=says):
        encode_files(
            str(compiled("static") if outputs is None else compiled(CASE, outputs=outputs)),
            [str(file)],
            str(tmp_path / "out"),
            BulkOptions(**OPTIONS, **more),
        )
