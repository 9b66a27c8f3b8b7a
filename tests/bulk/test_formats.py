"""Files in, files out: every format has the vectors of sentence-transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stcompile.bulk import readers
from stcompile.bulk.job import encode_files
from stcompile.bulk.options import BulkOptions
from stcompile.errors import InputError
from tests.bulk.files import FORMATS, bytes_of, jsonl, parquet, rows_of, summary_of, vectors_of
from tests.conftest import Compiled, load_case

CASE = "static_normalize"

# Two batches of another make add up another way. Measured: 6e-8.
ROUNDING = 1e-6

# Texts that every format can hold: tables and lines have none with line ends.
KNOWN = [(place, text) for place, text in enumerate(load_case(CASE).texts) if text.strip() and "\n" not in text]
TEXTS = [text for _, text in KNOWN]
EXPECTED = load_case(CASE).expected("default")[[place for place, _ in KNOWN]]
ROWS = [{"id": f"n{place}", "text": text, "lang": "de", "year": place} for place, text in enumerate(TEXTS)]


@pytest.mark.parametrize("ending", FORMATS)
def test_each_format_gives_the_vectors_of_sentence_transformers(
    ending: str, tmp_path: Path, compiled: Compiled
) -> None:
    file = FORMATS[ending](tmp_path / f"texts.{ending}", ROWS)
    options = BulkOptions(id="id", keep=("lang", "year"), shard_rows=7)
    outcome = encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "out"), options)
    table = rows_of(tmp_path / "out")
    assert table.column_names == ["id", "lang", "year", "embedding"]
    assert table["id"].to_pylist() == [row["id"] for row in ROWS]
    # A table of text has no numbers.
    assert list(map(str, table["year"].to_pylist())) == [str(row["year"]) for row in ROWS]
    assert table.schema.field("embedding").type == pa.list_(pa.field("element", pa.float32()), EXPECTED.shape[1])
    assert np.abs(vectors_of(table) - EXPECTED).max() <= ROUNDING
    assert outcome.summary == summary_of(tmp_path / "out")
    assert summary_of(tmp_path / "out")["written"] == len(ROWS)


def test_lines_of_text_are_numbered_over_all_files(tmp_path: Path, compiled: Compiled) -> None:
    for name, texts in (("b.txt", TEXTS[5:]), ("a.txt", TEXTS[:5])):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + "\r\n".join(texts).encode())
    encode_files(str(compiled(CASE)), [str(tmp_path / "*.txt")], str(tmp_path / "out"))
    table = rows_of(tmp_path / "out")
    assert table["row"].to_pylist() == list(range(len(TEXTS)))
    assert np.abs(vectors_of(table) - EXPECTED).max() <= ROUNDING


def test_a_folder_is_read_but_for_what_is_hidden(tmp_path: Path, compiled: Compiled) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "_old").mkdir()
    parquet(tmp_path / "in" / "deep" / "a.parquet", ROWS[:3])
    jsonl(tmp_path / "in" / "b.jsonl", ROWS[3:5])
    jsonl(tmp_path / "in" / "_old" / "c.jsonl", ROWS[5:])
    (tmp_path / "in" / "README.md").write_text("nothing")
    encode_files(str(compiled(CASE)), [str(tmp_path / "in")], str(tmp_path / "out"), BulkOptions(id="id"))
    assert sorted(rows_of(tmp_path / "out")["id"].to_pylist()) == [row["id"] for row in ROWS[:5]]


@pytest.mark.parametrize("kind", ["large_string", "string_view", "dictionary"])
def test_each_kind_of_text_in_parquet(kind: str, tmp_path: Path, compiled: Compiled) -> None:
    types = {
        "large_string": pa.large_string(),
        "string_view": pa.string_view(),
        "dictionary": pa.dictionary(pa.int32(), pa.string()),
    }
    column = pa.array(TEXTS, types[kind]) if kind != "dictionary" else pa.array(TEXTS).dictionary_encode()
    pq.write_table(pa.table({"text": column, "id": column}), tmp_path / "a.parquet", row_group_size=4)
    encode_files(
        str(compiled(CASE)), [str(tmp_path / "a.parquet")], str(tmp_path / "out"), BulkOptions(id="id", shard_rows=3)
    )
    table = rows_of(tmp_path / "out")
    assert table["id"].to_pylist() == TEXTS
    assert np.abs(vectors_of(table) - EXPECTED).max() <= ROUNDING


def test_numpy_files(tmp_path: Path, compiled: Compiled) -> None:
    file = parquet(tmp_path / "a.parquet", ROWS)
    encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "out"), BulkOptions(id="id", format="npy"))
    vectors, ids = (
        np.load(tmp_path / "out/part-00000000-000000000000.npy"),
        np.load(tmp_path / "out/part-00000000-000000000000.ids.npy"),
    )
    assert ids.tolist() == [row["id"] for row in ROWS]
    assert np.abs(vectors - EXPECTED).max() <= ROUNDING


def test_lance(tmp_path: Path, compiled: Compiled) -> None:
    import lance

    file = parquet(tmp_path / "a.parquet", ROWS)
    options = BulkOptions(id="id", format="lance", shard_rows=5)
    encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "out"), options)
    table = lance.dataset(str(tmp_path / "out" / "data.lance")).to_table()
    assert table["id"].to_pylist() == [row["id"] for row in ROWS]
    assert np.abs(vectors_of(table) - EXPECTED).max() <= ROUNDING


def test_each_precision_is_that_of_sentence_transformers(tmp_path: Path, compiled: Compiled) -> None:
    """Signs and float16 of the recorded vectors; 8 bits by the ranges of these very rows, which are the sample."""
    from sentence_transformers.util import quantize_embeddings

    file = parquet(tmp_path / "a.parquet", ROWS)
    found = {}
    for precision in ("float16", "int8", "uint8", "binary", "ubinary"):
        out = tmp_path / precision
        encode_files(str(compiled(CASE)), [str(file)], str(out), BulkOptions(precision=precision))
        found[precision] = vectors_of(rows_of(out))
    assert np.abs(found["float16"].astype(np.float32) - EXPECTED).max() <= np.finfo(np.float16).eps
    for precision in ("binary", "ubinary"):
        # A component that rounds to zero has either sign.
        clear = np.packbits(np.abs(EXPECTED) > ROUNDING, axis=1) == 255
        expected = quantize_embeddings(EXPECTED, precision)
        assert found[precision].dtype == expected.dtype
        assert (found[precision] == expected)[clear].all()
    for precision in ("int8", "uint8"):
        expected = quantize_embeddings(EXPECTED, precision)
        assert found[precision].dtype == expected.dtype
        # At a boundary a rounding error is a level.
        assert np.abs(found[precision].astype(int) - expected.astype(int)).max() <= 1
        assert (found[precision] != expected).mean() <= 0.01


def test_values_outside_the_sample_of_8_bits_are_cut(tmp_path: Path, compiled: Compiled) -> None:
    """Shards agree on one scale, which the first rows of each tell."""
    file = parquet(tmp_path / "a.parquet", ROWS)
    for rows in (5, 1000):
        options = BulkOptions(precision="int8", shard_rows=rows)
        encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / str(rows)), options)
    assert np.array_equal(vectors_of(rows_of(tmp_path / "5")), vectors_of(rows_of(tmp_path / "1000")))


@pytest.mark.parametrize("ending", FORMATS)
def test_large_texts_make_small_shards(
    ending: str, tmp_path: Path, compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (readers.parquet, readers.records):
        monkeypatch.setattr(module, "MOST_BYTES", 1000)
    file = FORMATS[ending](tmp_path / f"a.{ending}", [{"text": f"{place} {'word ' * 50}"} for place in range(12)])
    encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "out"))
    shards = summary_of(tmp_path / "out")["output"]
    assert [shard["rows"] for shard in shards] == [3, 3, 3, 3]


def test_a_file_in_memory_and_an_output_without_names_in_between(tmp_path: Path, compiled: Compiled) -> None:
    """An object store: no locks, no renaming."""
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe("/bucket/in/a.jsonl", jsonl(tmp_path / "a.jsonl", ROWS).read_bytes())
    store.pipe("/bucket/in/b.parquet", parquet(tmp_path / "b.parquet", ROWS).read_bytes())
    store.put(f"{compiled(CASE)}/", "/bucket/artifact/", recursive=True)
    where = "memory://bucket"
    options = BulkOptions(id="id", shard_rows=7)
    outcome = encode_files(f"{where}/artifact", [f"{where}/in"], f"{where}/out", options)
    assert outcome.summary is not None
    assert outcome.summary["written"] == 2 * len(ROWS)
    store.get("/bucket/out/", f"{tmp_path}/out/", recursive=True)
    table = rows_of(tmp_path / "out")
    assert table["id"].to_pylist() == 2 * [row["id"] for row in ROWS]
    assert np.abs(vectors_of(table) - np.concatenate([EXPECTED, EXPECTED])).max() <= ROUNDING
    again = encode_files(f"{where}/artifact", [f"{where}/in"], f"{where}/out", options)
    assert again.done == 0
    store.rm("/bucket", recursive=True)


def test_several_processes_write_the_same(tmp_path: Path, compiled: Compiled) -> None:
    from stcompile.bulk.job import Engine

    file = parquet(tmp_path / "a.parquet", ROWS)
    options = BulkOptions(id="id", shard_rows=3)
    encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "one"), options)
    encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "two"), options, engine=Engine(workers=2))
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": "feather"}, "unknown format 'feather': choose one of parquet, npy, lance"),
        ({"precision": "int4"}, "unknown precision 'int4'"),
        ({"keep": ("embedding",)}, "two columns 'embedding'"),
        ({"keep": ("lang",), "format": "npy"}, "npy files hold vectors and ids alone"),
        ({"shard_rows": 0}, "shard_rows must be a whole number of at least 1"),
        ({"prompt_name": "none"}, "unknown prompt 'none'"),
        ({"id": "nummer"}, r"has no column 'nummer': it has 'id', 'text', 'lang', 'year'"),
        ({"column": "year"}, "column 'year' is int64, not text"),
    ],
)
def test_options_that_will_not_do(changes: dict[str, Any], sentence: str, tmp_path: Path, compiled: Compiled) -> None:
    file = parquet(tmp_path / "a.parquet", ROWS)
    with pytest.raises(InputError, match=sentence):
        encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "out"), BulkOptions(**changes))
    # Nothing was begun that would be in the way of the right ones.
    outcome = encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "out"))
    assert outcome.done == len(ROWS)
