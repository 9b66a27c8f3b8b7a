"""What people's files really hold: a counted reject, or one clear sentence, and the rest is done."""

from __future__ import annotations

import codecs
import gzip
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stcompile.bulk.job import encode_files
from stcompile.bulk.options import BulkOptions
from stcompile.bulk.plan import make_plan
from stcompile.errors import ArtifactError, InputError, StcompileError
from tests.bulk.files import FORMATS, jsonl, parquet, rejects_of, rows_of, summary_of
from tests.conftest import Compiled

CASE = "static_normalize"


def _broken_footer(path: Path) -> Path:
    parquet(path, [{"text": "a"}])
    path.write_bytes(path.read_bytes()[:-9])
    return path


def _broken_page(path: Path, texts: str = "abcdefg") -> Path:
    """The footer is whole, the rows of the second row group of three are not; shards of two rows end elsewhere."""
    pq.write_table(pa.table({"text": list(texts)}), path, row_group_size=3, compression="snappy")
    group = pq.ParquetFile(path).metadata.row_group(1).column(0)
    content = bytearray(path.read_bytes())
    start = group.dictionary_page_offset or group.data_page_offset
    content[start : start + group.total_compressed_size] = b"\xff" * group.total_compressed_size
    path.write_bytes(content)
    return path


def _cut_gzip(path: Path) -> Path:
    whole = gzip.compress("".join(f'{{"text": "{os.urandom(40).hex()}"}}\n' for _ in range(500)).encode())
    path.write_bytes(whole[: len(whole) // 2])
    return path


# A file's name, who writes it, the rows of it that have a vector, and what is noted of the others.
FILES: dict[str, tuple[str, Callable[[Path], Path], int, list[tuple[int | None, str]]]] = {
    "empty": ("a.jsonl", lambda path: jsonl(path, []), 0, []),
    "empty csv": ("a.csv", lambda path: _bytes(path, b""), 0, []),
    "empty parquet": ("a.parquet", lambda path: _table(path, pa.table({"text": pa.array([], pa.string())})), 0, []),
    "nulls": ("a.jsonl", lambda path: jsonl(path, [{"text": "a"}, {"text": None}, {"text": "b"}]), 2, [(1, "null")]),
    "parquet nulls": ("a.parquet", lambda path: _table(path, pa.table({"text": ["a", None]})), 1, [(1, "null")]),
    "no text at all": (
        "a.parquet",
        lambda path: _table(path, pa.table({"text": pa.nulls(2)})),
        0,
        [(0, "null"), (1, "null")],
    ),
    "wrong type": ("a.jsonl", lambda path: jsonl(path, [{"text": 5}, {"text": "b"}]), 1, [(0, "int, not text")]),
    "no field": ("a.jsonl", lambda path: jsonl(path, [{"text": "a"}, {"txt": "b"}]), 1, [(1, "no field 'text'")]),
    "no json": ("a.jsonl", lambda path: _bytes(path, b'{"text": "a"}\n{"text": \n'), 1, [(1, "not JSON")]),
    "no object": ("a.jsonl", lambda path: _bytes(path, b'[1]\n\n{"text": "a"}\n'), 1, [(0, "not a JSON object")]),
    "deep json": ("a.jsonl", lambda path: _bytes(path, b"[" * 99999 + b'\n{"text": "a"}\n'), 1, [(0, "not JSON")]),
    "surrogate": ("a.jsonl", lambda path: _bytes(path, b'{"text": "\\ud800"}\n'), 0, [(0, "half of a surrogate pair")]),
    "no UTF-8": ("a.jsonl", lambda path: _bytes(path, b'{"text": "\xff"}\n{"text": "a"}\n'), 1, [(0, "not UTF-8")]),
    "no UTF-8 in csv": ("a.csv", lambda path: _bytes(path, b"text\nab\xff\na\n"), 1, [(0, "not UTF-8")]),
    "no UTF-8 in text": ("a.txt", lambda path: _bytes(path, b"a\n\xc3\n"), 1, [(1, "not UTF-8")]),
    "no UTF-8 in parquet": (
        "a.parquet",
        lambda path: _table(path, pa.table({"text": pa.array([b"a", b"\xff"]).view(pa.string())})),
        1,
        [(1, "not UTF-8")],
    ),
    "UTF-16": ("a.txt", lambda path: _bytes(path, "a\nb\n".encode("utf-16")), 0, [(None, "UTF-16, not UTF-8")]),
    "UTF-16 table": (
        "a.csv",
        lambda path: _bytes(path, codecs.BOM_UTF16_BE + "text\na\n".encode("utf-16-be")),
        0,
        [(None, "UTF-16, not UTF-8")],
    ),
    "short row": ("a.csv", lambda path: _bytes(path, b"id,text\n1,a\n2\n3,b\n"), 2, [(1, "1 values for 2 columns")]),
    "bad quote": ("a.csv", lambda path: _bytes(path, b'text\n"a"b\nc\n'), 1, [(0, "not a row of a table")]),
    "quotes over lines": (
        "a.csv",
        lambda path: _bytes(path, b'id,text\n1,"a\n2,b\n3,c"d\n4,e\n5,"f\n"\n"6\n",g,h\n'),
        2,
        [(0, "; lines 2 to 4)"), (3, "3 values for 2 columns (lines 8 to 9)")],
    ),
    "open quote": (
        "a.csv",
        lambda path: _bytes(path, b'text\na\n"b\nc\nd\n'),
        0,
        [(None, "a quote in the row of line 3 is never closed")],
    ),
    "quotes in tsv": ("a.tsv", lambda path: _bytes(path, b'text\tid\n"a\t1\nb"c\t2\n"\t3\n'), 3, []),
    "blank lines in csv": ("a.csv", lambda path: _bytes(path, b"\n \ntext\n\na\n"), 1, []),
    "lines of CR in csv": ("a.csv", lambda path: _bytes(path, b"text\ra\rb\r"), 2, []),
    "no UTF-8 that is wanted": ("a.csv", lambda path: _bytes(path, b"text,name\na,\xff\nb,c\n"), 2, []),
    "lines in quotes": ("a.csv", lambda path: _bytes(path, b'text\n"a\nb"\nc\n'), 2, []),
    "long field": ("a.csv", lambda path: _bytes(path, b"text\n" + b"a " * 100_000 + b"\n"), 1, []),
    "broken footer": ("a.parquet", _broken_footer, 0, [(None, "footer")]),
    "no parquet": ("a.parquet", lambda path: _bytes(path, b"no"), 0, [(None, "")]),
    "broken page in a part of a shard": (
        "a.parquet",
        lambda path: _broken_page(path, "abcd"),
        3,
        [(3, "the file cannot be read here")],
    ),
    "broken page": (
        "a.parquet",
        _broken_page,
        4,
        [(3, "the file cannot be read here"), (4, "the file cannot be read"), (5, "the file cannot be read")],
    ),
    "cut gzip": ("a.jsonl.gz", _cut_gzip, 0, [(None, "")]),
}


def _bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _table(path: Path, table: pa.Table) -> Path:
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize("kind", FILES)
def test_a_file_with_bad_rows(kind: str, tmp_path: Path, compiled: Compiled) -> None:
    """Beside a good one, which is done in any case; and the counts add up."""
    name, write, written, rejects = FILES[kind]
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / name)
    jsonl(tmp_path / "in" / "z.jsonl", [{"text": "good"}])
    outcome = encode_files(
        str(compiled(CASE)), [str(tmp_path / "in")], str(tmp_path / "out"), BulkOptions(shard_rows=2)
    )
    counts = outcome.summary
    assert counts is not None
    assert rows_of(tmp_path / "out").num_rows == written + 1 == counts["written"]
    found = rejects_of(tmp_path / "out")
    assert [(file, row) for file, row, _ in found] == [(name, row) for row, _ in rejects]
    assert all(reason in said for (_, reason), (_, _, said) in zip(rejects, found, strict=True))
    assert counts["rejected"] == sum(row is not None for row, _ in rejects)
    # Told by the exit code, too.
    assert counts["unreadable_files"] == any(row is None or "cannot be read" in reason for row, reason in rejects)
    assert counts["rows"] == counts["written"] + counts["rejected"]


def test_values_that_a_column_cannot_hold(tmp_path: Path, compiled: Compiled) -> None:
    rows = [{"text": f"t{place}", "id": place, "tags": ["a", place]} for place in range(1000)]
    rows += [{"text": "t", "id": "x", "tags": None}, {"text": "t", "id": 2**70, "tags": None}, {"text": "t"}]
    jsonl(tmp_path / "a.jsonl", rows)
    options = BulkOptions(id="id", keep=("tags",))
    encode_files(str(compiled(CASE)), [str(tmp_path / "a.jsonl")], str(tmp_path / "out"), options)
    assert rejects_of(tmp_path / "out") == [
        ("a.jsonl", 1000, "id: str, not int64"),
        ("a.jsonl", 1001, "id: int, not int64"),
    ]
    table = rows_of(tmp_path / "out")
    assert table["id"].to_pylist() == [*range(1000), None]
    # What holds other values goes along as JSON.
    assert table["tags"].to_pylist()[5] == '["a", 5]'


def test_values_of_other_types_than_those_before(tmp_path: Path, compiled: Compiled) -> None:
    """Where there was nothing to tell the type by, what comes goes along as JSON; large numbers stay what they are."""
    rows: list[dict[str, Any]] = [{"text": f"t{place}", "id": 2**63 + place, "late": None} for place in range(1000)]
    rows += [{"text": "t", "id": 1, "late": late} for late in (5, True, {"a": 1}, "x", None)]
    rows += [{"text": "t", "id": -1, "late": None}]
    jsonl(tmp_path / "a.jsonl", rows)
    options = BulkOptions(id="id", keep=("late",))
    encode_files(str(compiled(CASE)), [str(tmp_path / "a.jsonl")], str(tmp_path / "out"), options)
    table = rows_of(tmp_path / "out")
    assert table["id"].to_pylist() == [row["id"] for row in rows[:-1]]
    assert table["late"].to_pylist()[1000:] == ["5", "true", '{"a": 1}', "x", None]
    assert rejects_of(tmp_path / "out") == [("a.jsonl", 1005, "id: int, not uint64")]


def test_texts_that_are_none_in_other_columns(tmp_path: Path, compiled: Compiled) -> None:
    """Of each format; the rows beside them are done."""
    _bytes(tmp_path / "a.jsonl", b'{"text": "a", "id": "\\ud800"}\n{"text": "b", "id": "x"}\n')
    _bytes(tmp_path / "b.csv", b"text,id\na,\xff\nb,x\n")
    strings = pa.array([b"\xff", b"x"]).view(pa.string())
    _table(tmp_path / "c.parquet", pa.table({"text": ["a", "b"], "id": strings}))
    _table(tmp_path / "d.parquet", pa.table({"text": ["a", "b"], "id": strings.cast(pa.string_view())}))
    encode_files(str(compiled(CASE)), [str(tmp_path / "*.*")], str(tmp_path / "out"), BulkOptions(id="id"))
    assert rows_of(tmp_path / "out")["id"].to_pylist() == ["x"] * 4
    assert rejects_of(tmp_path / "out") == [
        ("a.jsonl", 0, "id: half of a surrogate pair, which is no text"),
        *((name, 0, "id: not UTF-8") for name in ("b.csv", "c.parquet", "d.parquet")),
    ]


def test_nested_values_go_along_as_they_are(tmp_path: Path, compiled: Compiled) -> None:
    """Views, of which pyarrow cannot take rows, become what it can; what is no text in them is a reject."""
    tags = pa.array([["a", "b"], None], pa.list_(pa.string_view()))
    (tmp_path / "in").mkdir()
    _table(tmp_path / "in" / "a.parquet", pa.table({"text": ["a", "b"], "tags": tags}))
    bad = pa.ListArray.from_arrays([0, 1, 2], pa.array([b"\xff", b"x"]).view(pa.string())).cast(tags.type)
    _table(tmp_path / "in" / "b.parquet", pa.table({"text": ["a", "b"], "tags": bad}))
    encode_files(str(compiled(CASE)), [str(tmp_path / "in")], str(tmp_path / "out"), BulkOptions(keep=("tags",)))
    assert rows_of(tmp_path / "out")["tags"].to_pylist() == [["a", "b"], None, ["x"]]
    assert rejects_of(tmp_path / "out") == [("b.parquet", 0, "tags: not UTF-8")]


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("where", ["begin", "rows"])
def test_a_passing_error_of_reading_is_no_damage(
    where: str, ending: str, tmp_path: Path, compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is noted of it: the same command does all."""
    from fsspec.implementations.local import LocalFileSystem

    file = FORMATS[ending](tmp_path / f"a.{ending}", [{"text": f"t{place}"} for place in range(9)])
    real, count = LocalFileSystem.open, 0

    def failing(self: LocalFileSystem, path: str, *arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += str(path) == str(file)
        if str(path) == str(file) and (where == "begin" or is_planned):
            raise OSError(5, "Input/output error")
        return real(self, path, *arguments, **options)

    is_planned = False

    def planned(*arguments: Any) -> Any:
        nonlocal is_planned
        plan = make_plan(*arguments)
        is_planned = True
        return plan

    monkeypatch.setattr(LocalFileSystem, "open", failing)
    monkeypatch.setattr("stcompile.bulk.job.make_plan", planned)
    options = BulkOptions(shard_rows=3)
    asked = (str(compiled(CASE)), [str(file)], str(tmp_path / "out"), options)
    with pytest.raises(StcompileError, match=r"/a\..* could not be read \(Input/output error\): the same command"):
        encode_files(*asked)
    assert count
    monkeypatch.undo()
    assert encode_files(*asked).done == 9
    assert not rejects_of(tmp_path / "out")


def test_a_text_that_the_tokenizer_cannot_read(
    tmp_path: Path, compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found among the others, which are encoded."""
    from stcompile.runtime.text.static import StaticText

    real = StaticText.tokenize

    def tokenize(self: StaticText, texts: Sequence[str], *arguments: Any, **options: Any) -> Any:
        if any("unreadable" in text for text in texts):
            raise ValueError("WordLevel error: Missing [UNK] token from the vocabulary")
        return real(self, texts, *arguments, **options)

    monkeypatch.setattr(StaticText, "tokenize", tokenize)
    file = jsonl(tmp_path / "a.jsonl", [{"text": text} for text in ("a", "b", "unreadable", "c", "unreadable", "d")])
    encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "out"))
    assert rows_of(tmp_path / "out")["row"].to_pylist() == [0, 1, 3, 5]
    assert [(row, "cannot read a text" in reason) for _, row, reason in rejects_of(tmp_path / "out")] == [
        (2, True),
        (4, True),
    ]


def test_numbers_that_float16_cannot_hold(tmp_path: Path, compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that would become infinite is none of the output."""
    from stcompile.runtime.encoder import Encoder

    real: Any = Encoder.encode

    def encode(self: Encoder, texts: list[str], **options: Any) -> Any:
        found = real(self, texts, **options)
        found[[text == "large" for text in texts]] *= 1e6
        return found

    monkeypatch.setattr(Encoder, "encode", encode)
    file = jsonl(tmp_path / "a.jsonl", [{"text": text} for text in ("a", "large", "b")])
    encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "out"), BulkOptions(precision="float16"))
    assert rows_of(tmp_path / "out")["row"].to_pylist() == [0, 2]
    assert [(row, "65504" in reason) for _, row, reason in rejects_of(tmp_path / "out")] == [(1, True)]


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        (["missing.parquet"], "missing.parquet does not exist"),
        (["*.parquet"], r"no file fits .*\*\.parquet"),
        (["a.feather"], r"cannot tell the format of .*a\.feather: the endings \.parquet"),
        (["empty"], "there is no file to read in"),
        (["nowhere://bucket/a.parquet"], "is no address of files"),
        (["two"], r"do not agree on a column \('id' is int64 in .*a\.jsonl, string in .*b\.jsonl\)"),
        (["zip://a.jsonl::a.zip"], "is in an archive"),
        (["hf://"], "hf:// cannot be reached"),
        ([""], "an address is empty"),
        (["~nobody/a.jsonl"], "~nobody/a.jsonl does not exist"),
        (["other.jsonl"], r"other\.jsonl has no field 'text' in its first 2 rows: they have 'body', 'id'"),
        (["twice/a.csv"], r"twice/a\.csv has 2 columns 'id'"),
        (["twice/a.parquet"], r"twice/a\.parquet has 2 columns 'id'"),
    ],
)
def test_input_that_is_refused_before_the_work(
    inputs: list[str], sentence: str, tmp_path: Path, compiled: Compiled
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "twice").mkdir()
    (tmp_path / "a.feather").write_bytes(b"")
    _bytes(tmp_path / "twice" / "a.csv", b"id,text,id\n1,a,2\n")
    _table(tmp_path / "twice" / "a.parquet", pa.table([["a"], ["b"], ["c"]], names=["id", "text", "id"]))
    jsonl(tmp_path / "other.jsonl", [{"body": "a", "id": 1}, {"body": "b", "id": 2}])
    jsonl(tmp_path / "two" / "a.jsonl", [{"text": "a", "id": 1}])
    jsonl(tmp_path / "two" / "b.jsonl", [{"text": "a", "id": "x"}])
    addresses = [item if "://" in item or not item else str(tmp_path / item) for item in inputs]
    with pytest.raises(StcompileError, match=sentence):
        encode_files(str(compiled(CASE)), addresses, str(tmp_path / "out"), BulkOptions(id="id"))
    assert not list(tmp_path.glob("out/*.parquet"))


def test_outputs_that_are_refused(tmp_path: Path, compiled: Compiled) -> None:
    artifact = str(compiled(CASE))
    file = jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("five years")
    with pytest.raises(InputError, match=r"holds other files \(thesis.txt\)"):
        encode_files(artifact, [str(file)], str(tmp_path / "mine"), overwrite=True)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="is a file: the output is a folder"):
        encode_files(artifact, [str(file)], str(file))
    with pytest.raises(InputError, match="is in the input"):
        encode_files(artifact, [str(tmp_path)], str(tmp_path / "out"))
    with pytest.raises(InputError, match="is in the artifact"):
        encode_files(artifact, [str(file)], f"{artifact}/out")
    with pytest.raises(ArtifactError, match="is no artifact"):
        encode_files(str(tmp_path), [str(file)], str(tmp_path / "out"))


def test_an_output_that_cannot_be_written(tmp_path: Path, compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full after the first shard; what is done is kept."""
    file = jsonl(tmp_path / "a.jsonl", [{"text": f"t{place}"} for place in range(9)])
    real, count = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal count
        count += 1
        if count > 8:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    options = BulkOptions(shard_rows=3)
    with pytest.raises(ArtifactError, match=r"no space left to write .*/out/"):
        encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "out"), options)
    monkeypatch.undo()
    assert not [path for path in (tmp_path / "out").rglob("*") if ".partial-" in path.name]
    outcome = encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "out"), options)
    assert 0 < outcome.done < 9
    assert rows_of(tmp_path / "out")["row"].to_pylist() == list(range(9))


def test_another_job_is_not_gone_on_with(tmp_path: Path, compiled: Compiled) -> None:
    artifact = str(compiled(CASE))
    (tmp_path / "in").mkdir()
    file = jsonl(tmp_path / "in" / "a.jsonl", [{"text": "a"}, {"text": "b"}])
    where = ([str(tmp_path / "in")], str(tmp_path / "out"))
    encode_files(artifact, *where)
    before = summary_of(tmp_path / "out")

    def refused(sentence: str, artifact: str = artifact, **options: object) -> None:
        with pytest.raises(InputError, match=sentence):
            encode_files(artifact, *where, BulkOptions(**options))  # type: ignore[arg-type]
        assert summary_of(tmp_path / "out") == before

    refused(r"other options \(precision 'float32', now 'binary'\)", precision="binary")
    refused("another artifact", str(compiled("static_dense")))
    jsonl(tmp_path / "in" / "b.jsonl", [{"text": "c"}])
    refused(r"b\.jsonl is new")
    (tmp_path / "in" / "b.jsonl").unlink()
    content = file.read_bytes()
    file.write_bytes(content.replace(b"b", b"c"))
    refused(r"a\.jsonl has changed")
    # The same bytes at another time are the same.
    file.write_bytes(content)
    assert encode_files(artifact, *where).done == 0
    file.write_bytes(content.replace(b"b", b"c"))
    assert encode_files(artifact, *where, overwrite=True).done == 2


def test_one_run_at_a_time(tmp_path: Path, compiled: Compiled) -> None:
    from stcompile.bulk.journal import LOCK
    from stcompile.bulk.store import Store

    file = jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    with Store(str(tmp_path / "out")).only_one(LOCK), pytest.raises(InputError, match="another run writes to"):
        encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "out"))
    assert encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "out")).done == 1


def test_a_shard_that_is_lost_is_done_again(tmp_path: Path, compiled: Compiled) -> None:
    file = jsonl(tmp_path / "a.jsonl", [{"text": f"t{place}"} for place in range(9)])
    options = BulkOptions(shard_rows=3)
    encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "out"), options)
    before = (tmp_path / "out" / "part-00000000-000000000003.parquet").read_bytes()
    (tmp_path / "out" / "part-00000000-000000000003.parquet").unlink()
    (tmp_path / "out" / "_summary.json").unlink()
    outcome = encode_files(str(compiled(CASE)), [str(file)], str(tmp_path / "out"), options)
    assert outcome.done == 3
    assert (tmp_path / "out" / "part-00000000-000000000003.parquet").read_bytes() == before
