"""Texts in and vectors out: every format, and a sentence for every file that is not one."""

from __future__ import annotations

import errno
import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stcompile.cli.textfiles import STDIN, check_place, read_share, read_texts, texts_of, write_jsonl, write_npy
from stcompile.errors import InputError

_VECTORS = np.array([[1.5, -2], [0, 0.1]], np.float32)
_TEXTS = ["größer", 'a "quoted"\ttext']
_ROWS = [{"text": text, "embedding": row.tolist()} for text, row in zip(_TEXTS, _VECTORS, strict=True)]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.txt", "one\ntwo\n", ["one", "two"]),
        ("t.txt", "one\r\n\r\n two ", ["one", "", " two "]),
        ("t.txt", "größer 😀 一\u2028二", ["größer 😀 一\u2028二"]),
        # only the name makes a file JSONL: a text may begin with a brace
        ("t.txt", '{"text": "one"}\n', ['{"text": "one"}']),
        ("t.jsonl", '{"text": "one", "id": 1}\n\n{"text": "two\\nlines"}', ["one", "two\nlines"]),
        ("t.ndjson", '{"text": ""}', [""]),
        # a byte order mark is one only at the start
        ("t.txt", "\ufeffone\n\ufefftwo\n", ["one", "\ufefftwo"]),
        ("t.jsonl", '\ufeff{"text": "one"}\n', ["one"]),
        # a table: its first row names the columns, an empty line is no row, an empty cell is a text
        ("t.csv", "text\none\ntwo\n", ["one", "two"]),
        ("t.csv", "id,text,more\n1,one,x\n\n2,,y\r\n3,three,z", ["one", "", "three"]),
        ("t.csv", 'text,id\n"one, ""two""\nthree",1\n', ['one, "two"\nthree']),
        ("t.csv", "\ufefftext,id\ngrößer,1\n", ["größer"]),
        ("t.csv", "\n , \nid,text\n1, \n", [" "]),
        ("t.csv", f"text,id\n{'long ' * 30_000},1\n", ["long " * 30_000]),
        ("t.tsv", "id\ttext\n1\tone, two\n", ["one, two"]),
        # a tab ends a value, a line end a row, and a quote is a letter
        ("t.tsv", 'id\ttext\n1\t"one\n2\ttwo"\n', ['"one', 'two"']),
        # capitals are how other systems write the same endings
        ("T.CSV", "id,text\n1,one\n", ["one"]),
        ("T.Tsv", "id\ttext\n1\tone\n", ["one"]),
        ("T.JSONL", '{"text": "one"}\n', ["one"]),
        # any other name is plain text, whatever is in it
        ("t.txt", "text,id\none,1\n", ["text,id", "one,1"]),
    ],
)
def test_texts_of_a_file(name: str, content: str, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content.encode())
    assert read_texts(str(tmp_path / name)) == expected


def test_a_field_of_another_name(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "no", "body": "yes"}')
    assert read_texts(str(tmp_path / "t.jsonl"), "body") == ["yes"]
    (tmp_path / "t.csv").write_text("text,the body\nno,yes\n")
    assert read_texts(str(tmp_path / "t.csv"), "the body") == ["yes"]
    (tmp_path / "t.txt").write_text("of lines there is but one field\n")
    assert read_texts(str(tmp_path / "t.txt"), "body") == ["of lines there is but one field"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("one\n{two}\n", ["one", "{two}"]),
        ('{"text": "one"}\n{"text": "two"}\n', ["one", "two"]),
        ("\n", [""]),
    ],
)
def test_standard_input_is_jsonl_when_it_starts_like_it(
    content: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(content))
    assert read_texts(STDIN) == expected


@pytest.mark.parametrize("line", [b"one\n", b'{"text": "one"}\n'])
def test_a_byte_order_mark_on_standard_input_is_no_text(line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + line), encoding="utf-8"))
    assert read_texts(STDIN) == ["one"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("t.txt", b"", r"t\.txt holds no text"),
        ("t.jsonl", b"\n\n", r"t\.jsonl holds no text"),
        ("t.txt", b"one\n\xff\xfe\n", r"t\.txt is not UTF-8 text"),
        ("t.jsonl", b'{"text": "one"}\nnope\n', r"line 2 of .*t\.jsonl is not a JSON object with the field 'text'"),
        ("t.jsonl", b'{"body": "one"}', "line 1 .* field 'text'"),
        ("t.jsonl", b'"one"', "line 1 .* field 'text'"),
        ("t.jsonl", b"[1]", "line 1 .* field 'text'"),
        ("t.jsonl", b"3", "line 1 .* field 'text'"),
        ("t.jsonl", b'{"text": null}', "line 1 .*'text' is NoneType, not text"),
        ("t.jsonl", b'{"text": 3}', "'text' is int, not text"),
        ("t.csv", b"", r"t\.csv has no column 'text' in its first row, which has no columns"),
        ("t.csv", b"Text,id\none,1\n", r"no column 'text' in its first row, which has 'Text', 'id': name one of them"),
        ("t.csv", b"one\ntwo\n", r"no column 'text' in its first row, which has 'one'"),
        ("t.csv", b"text,id\n", r"t\.csv holds no text"),
        ("t.csv", b"id,text\n1,one\n2\n", r"row 3 of .*t\.csv has 1 values for 2 columns: check its quotes"),
        # a comma without quotes around its text cuts it, and of two columns neither is the one
        ("t.csv", b"id,text\n1,one, two\n", r"row 2 of .*t\.csv has 3 values for 2 columns: check its quotes"),
        ("t.csv", b"text,text\nfirst,second\n", r"t\.csv has 2 columns 'text': give each one a name of its own"),
        ("t.json", b'{"text": "one"}\n', r"t\.json is JSON: write an object a line, and name it \.jsonl"),
        ("t.jsonl", b"[" * 99_999, "line 1 .* is not a JSON object"),
        ("t.csv", b"text\n\xff\xfe\n", r"t\.csv is not UTF-8 text"),
        # what follows would all be one text
        ("t.csv", b'text\n"one\ntwo\nthree\n', r"t\.csv is not a table .*check its quotes"),
        ("t.csv", b'text\n"' + b"a" * 200_000, r"t\.csv is not a table .*check its quotes"),
    ],
)
def test_a_file_without_texts_is_named(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=reason):
        read_texts(str(tmp_path / name))


@pytest.mark.parametrize(("name", "reason"), [("absent.txt", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_named(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"cannot be read: {reason}"):
        read_texts(str(tmp_path / name))


def test_standard_input_that_is_not_utf8_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # what Python makes of standard input in a container without a locale
    stream = io.TextIOWrapper(io.BytesIO(b"\xff\xfe\n"), encoding="utf-8", errors="surrogateescape")
    monkeypatch.setattr(sys, "stdin", stream)
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_texts(STDIN)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("0.3%", 0.003),
        ("0.003", 0.003),
        (" 5 % ", 0.05),
        ("99.9%", 0.999),
        (".5", 0.5),
        ("1e-3", 0.001),
        ("1e-3%", 1e-5),
    ],
)
def test_a_share_is_read_as_people_write_it(text: str, share: float) -> None:
    assert read_share(text) == pytest.approx(share)


@pytest.mark.parametrize(
    "text",
    ["", "%", "a little", "0", "0%", "1", "100%", "3", "-0.1", "nan", "inf", "0.3%%", "0.3% of it", "0,3%", "1/3"],
)
def test_what_is_no_share_is_named(text: str) -> None:
    with pytest.raises(InputError, match=r"is no share: write it like 0\.3% or 0\.003"):
        read_share(text)


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.uint8])
@pytest.mark.parametrize("count", [1, 2, 1000])
def test_npy_is_read_back_as_it_was(count: int, dtype: npt.DTypeLike, tmp_path: Path) -> None:
    vectors = np.arange(count * 3).reshape(count, 3).astype(dtype)
    write_npy(tmp_path / "v.npy", iter(vectors))
    for mapped in (None, "r"):
        found = np.load(tmp_path / "v.npy", mmap_mode=mapped)
        assert found.dtype == dtype
        assert np.array_equal(found, vectors)
    np.save(tmp_path / "whole.npy", vectors)
    assert (tmp_path / "v.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_a_text_is_there_before_the_next_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"one\ntwo\n" + b"x" * 100_000 + b"\n\xff\n")
    texts = texts_of(str(tmp_path / "t.txt"))
    assert [next(texts), next(texts)] == ["one", "two"]
    with pytest.raises(InputError, match="is not UTF-8 text"):
        list(texts)


def _write_rows(path: Path, rows: Iterator[npt.NDArray[Any]]) -> None:
    if path.suffix == ".npy":
        write_npy(path, rows)
    else:
        write_jsonl(str(path), ({"text": "text", "embedding": row.tolist()} for row in rows))


@pytest.mark.parametrize("path", ["v.npy", "v.jsonl"])
def test_rows_are_written_as_they_come(path: str, tmp_path: Path) -> None:
    """More of them than a buffer holds are in the file that is not at its place yet."""
    sizes = []

    def rows() -> Iterator[npt.NDArray[np.float32]]:
        for _ in range(50):
            sizes.append(sum(file.stat().st_size for file in tmp_path.iterdir()))
            yield np.zeros(4096, np.float32)

    _write_rows(tmp_path / path, rows())
    assert sizes[0] == 0
    assert sizes[-1] > 40 * 4096
    assert [file.name for file in tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("path", ["v.npy", "v.jsonl"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "the source is gone"), KeyboardInterrupt()], ids=repr)
def test_an_error_of_the_source_is_not_the_destinations(path: str, error: BaseException, tmp_path: Path) -> None:
    def rows() -> Iterator[npt.NDArray[np.float32]]:
        yield np.zeros(4, np.float32)
        raise error

    (tmp_path / path).write_bytes(b"earlier")
    with pytest.raises(type(error)):
        _write_rows(tmp_path / path, rows())
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(path, b"earlier")]


@pytest.mark.parametrize("to_stdout", [True, False])
def test_jsonl_is_read_back_as_it_was(to_stdout: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "v.jsonl"
    write_jsonl(STDIN if to_stdout else str(path), _ROWS)
    lines = (capsys.readouterr().out if to_stdout else path.read_text(encoding="utf-8")).splitlines()
    rows = [json.loads(line) for line in lines]
    assert "größer" in lines[0]
    assert [row["text"] for row in rows] == _TEXTS
    # through float64 and back, float32 loses nothing
    assert np.array_equal(np.array([row["embedding"] for row in rows], np.float32), _VECTORS)


def _npy(path: Path) -> None:
    write_npy(path, _VECTORS)


def _jsonl(path: Path) -> None:
    write_jsonl(str(path), _ROWS)


@pytest.mark.parametrize("write", [_npy, _jsonl])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent/v", "No such file"),
        ("folder", "Is a directory"),
        ("file/v", "Not a directory"),
        ("v" * 300, "too long"),
    ],
)
def test_a_destination_that_cannot_be_written_is_named(
    write: Callable[[Path], None], name: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"cannot be written .*{reason}"):
        write(tmp_path / name)
    with pytest.raises(InputError, match=f"cannot be written .*{reason}"):
        check_place(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("write", [_npy, _jsonl])
def test_a_full_disk_leaves_the_earlier_file(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "v").write_bytes(b"earlier")
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *mode, **options: real(Path("/dev/full"), *mode, **options))
    with pytest.raises(InputError, match=r"cannot be written \([Nn]o space left"):
        write(tmp_path / "v")
    monkeypatch.undo()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("v", b"earlier")]


def test_to_ask_for_a_place_leaves_nothing_there(tmp_path: Path) -> None:
    check_place(tmp_path / "new")
    assert not list(tmp_path.iterdir())
    (tmp_path / "old").write_bytes(b"earlier")
    check_place(tmp_path / "old")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("old", b"earlier")]


def _parquet(path: Path) -> None:
    pq.write_table(pa.table({"text": ["ä" * 40, "b"]}), path)


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (_parquet, "Parquet"),
        (lambda path: path.write_bytes(gzip.compress("größer".encode())), "compressed"),
        (lambda path: path.write_bytes(pa.compress("größer".encode(), "zstd", asbytes=True)), "compressed"),
    ],
    ids=["parquet", "gzip", "zstd"],
)
def test_a_file_for_the_other_way_in_is_told_there(write: Callable[[Path], None], kind: str, tmp_path: Path) -> None:
    write(tmp_path / "data")
    with pytest.raises(InputError, match=f"data is {kind}: encode reads that through --input, into a folder"):
        read_texts(str(tmp_path / "data"))
