"""Which files are found, and what is in memory while they are read."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stcompile.bulk.inputs import InputFile, find
from stcompile.bulk.options import BulkOptions
from stcompile.bulk.plan import make_plan
from stcompile.bulk.readers import reader_of
from stcompile.bulk.readers.base import UnreadableError, Wanted, reading
from stcompile.bulk.store import reached
from stcompile.errors import InputError, StcompileError
from tests.bulk.files import jsonl, parquet


def _names(found: list[InputFile], base: Path) -> list[str]:
    return [file.address.removeprefix(f"file://{base}/") for file in found]


def test_what_a_link_leads_to_is_what_is_compared(tmp_path: Path) -> None:
    """Its size and its time; links of data tools (DVC, the hub's cache, git-annex) all look alike."""
    target = jsonl(tmp_path / "target", [{"text": "a"}])
    (tmp_path / "a.jsonl").symlink_to(target)
    (before,) = find([str(tmp_path / "a.jsonl")])
    assert before.size == target.stat().st_size
    os.utime(target, ns=(1, before_time := 10**18 + 1))
    (later,) = find([str(tmp_path)])
    assert later.version == f"mtime_ns {before_time}"
    assert later.version != before.version


def _tree(base: Path) -> None:
    for name in ("in/a.jsonl", "in/part.parquet/b.jsonl", "in/part.parquet/_SUCCESS", "in/.c/c.jsonl", "else/d.jsonl"):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        jsonl(base / name, [{"text": name}])


@pytest.mark.parametrize(
    ("addresses", "names"),
    [
        (["in"], ["in/a.jsonl", "in/link/d.jsonl", "in/part.parquet/b.jsonl"]),
        (["in/*"], ["in/a.jsonl", "in/link/d.jsonl", "in/part.parquet/b.jsonl"]),
        (["in/*.parquet"], ["in/part.parquet/b.jsonl"]),
        (["i?/[p]*/b.*"], ["in/part.parquet/b.jsonl"]),
        (["in/**/d.jsonl"], ["in/link/d.jsonl"]),
        (["in/.*"], ["in/.c/c.jsonl"]),
        # The same files by other names, once.
        (["in/a.jsonl", "in/../in/a.jsonl", "in/./a.jsonl", "in//a.jsonl", "in/self/a.jsonl"], ["in/a.jsonl"]),
        (["in/link", "else"], ["else/d.jsonl"]),
        (["in/link/../a.jsonl", "in/a.jsonl"], ["a.jsonl", "in/a.jsonl"]),
    ],
)
def test_links_and_folders(addresses: list[str], names: list[str], tmp_path: Path) -> None:
    """They are followed, each once, and what leads back to where it began ends."""
    _tree(tmp_path)
    jsonl(tmp_path / "a.jsonl", [{"text": "above"}])
    (tmp_path / "in" / "link").symlink_to(tmp_path / "else")
    (tmp_path / "else" / "loop").symlink_to(tmp_path / "else")
    (tmp_path / "in" / "self").symlink_to(tmp_path / "in")
    assert _names(find([f"{tmp_path}/{address}" for address in addresses]), tmp_path) == names


@pytest.mark.parametrize("name", ["a::b.jsonl", "zip::a.jsonl", "~x.jsonl", "data:a.jsonl", "a b#?.jsonl", "[a].jsonl"])
def test_names_that_look_like_something_else(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are files, wherever the address is written down and read again."""
    jsonl(tmp_path / name, [{"text": name}])
    monkeypatch.chdir(tmp_path)
    for address in (name, tmp_path / name, f"file://{tmp_path}/{name}", f"file:{tmp_path}/{name}", str(tmp_path)):
        (file,) = find([address])
        assert json.loads(file.open().read()) == {"text": name}
        assert find([file.address]) == [file]
    with pytest.raises(InputError, match=r"the input is one address, .*: pass a list of it"):
        find(name)


def _refusing(real: Callable[..., Any], place: Path) -> Callable[..., Any]:
    def call(path: Any = ".", *arguments: Any) -> Any:
        if Path(path) == place:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments)

    return call


@pytest.mark.parametrize("pattern", ["in", "i*", "in/*/b.jsonl", "in/**/b.jsonl"])
def test_a_folder_that_cannot_be_listed(pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tree(tmp_path)
    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, _refusing(getattr(os, name), tmp_path / "in" / "part.parquet"))
    if pattern == "in/*/b.jsonl":
        # Nothing is listed there.
        assert len(find([f"{tmp_path}/{pattern}"])) == 1
        return
    with pytest.raises(InputError, match=r"in/part\.parquet cannot be read: Permission denied"):
        find([f"{tmp_path}/{pattern}"])


@pytest.mark.parametrize("kind", ["dangling", "pipe"])
def test_what_is_no_file(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "a.jsonl"
    if kind == "dangling":
        place.symlink_to(tmp_path / "nowhere")
    else:
        os.mkfifo(place)
    sentence = {"dangling": r"a\.jsonl does not exist", "pipe": r"a\.jsonl is no file but a pipe"}[kind]
    for address in (place, tmp_path):
        with pytest.raises(InputError, match=sentence):
            find([address])


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (PermissionError(13, "Permission denied"), InputError, "cannot be read: Permission denied"),
        (RuntimeError("Unable to locate credentials"), StcompileError, r"cannot be reached \(Unable to locate cred"),
        (NotImplementedError(), StcompileError, r"cannot be reached \(NotImplementedError\)"),
    ],
)
def test_another_file_system_that_fails(
    error: Exception, kind: type[Exception], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any depth: fsspec's own walk says nothing."""
    from fsspec.implementations.memory import MemoryFileSystem

    store = MemoryFileSystem()
    for name in ("a.jsonl", "deep/er/b.jsonl", "deep/_old/c.jsonl"):
        store.pipe(f"/inputs/{name}", b'{"text": "a"}\n')
    try:
        assert [file.address for file in find(["memory://inputs"])] == [
            "memory:///inputs/a.jsonl",
            "memory:///inputs/deep/er/b.jsonl",
        ]
        assert [file.address for file in find(["memory://inputs/d*"])] == ["memory:///inputs/deep/er/b.jsonl"]
        real = MemoryFileSystem.ls

        def ls(self: MemoryFileSystem, path: str, *arguments: Any, **options: Any) -> Any:
            if path.endswith("er"):
                raise error
            return real(self, path, *arguments, **options)

        monkeypatch.setattr(MemoryFileSystem, "ls", ls)
        with pytest.raises(kind, match=f"memory://inputs {sentence}"):
            find(["memory://inputs"])
    finally:
        store.rm("/inputs", recursive=True)


class _ServerError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(5, "Input/output error"), StcompileError),
        (FileNotFoundError(2, "No such file"), StcompileError),
        (MemoryError(), StcompileError),
        (pa.ArrowMemoryError("malloc of size 64 failed"), StcompileError),
        (InputError("ours"), InputError),
        (OSError("Corrupt snappy compressed data."), UnreadableError),
        (pa.ArrowInvalid("Parquet magic bytes not found"), UnreadableError),
        (EOFError(), UnreadableError),
    ],
)
def test_what_is_damage_and_what_is_not(error: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind) as found, reading("a.jsonl"):
        raise error
    assert type(found.value) is kind


@pytest.mark.parametrize("error", [ValueError("the server supports no ranges"), OSError("no answer"), _ServerError()])
def test_what_a_file_system_raises_is_no_damage(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is: through Arrow, through decompression, through lines."""
    from fsspec.implementations.local import LocalFileOpener

    def read(*_: Any) -> bytes:
        raise error

    parquet(tmp_path / "a.parquet", [{"text": "a"}])
    for name in ("b.jsonl", "c.csv", "d.txt", "e.jsonl.gz", "f.csv.zst"):
        (tmp_path / name).write_bytes(b"text")
    files = find([tmp_path])
    monkeypatch.setattr(LocalFileOpener, "read", read, raising=False)
    assert len(files) == 6
    for file in files:
        with pytest.raises(StcompileError, match=r"could not be read \(.*\): the same command goes on"):
            reader_of(file, Wanted("text")).scan(10)


def test_errors_of_a_file_system_pass_where_they_say_what_they_are() -> None:
    with pytest.raises(FileNotFoundError), reached("s3://bucket"):
        raise FileNotFoundError
    with pytest.raises(StcompileError, match=r"s3://bucket cannot be reached \(_ServerError\)"), reached("s3://bucket"):
        raise _ServerError


# Types of two files' columns, and what becomes of them; None for a refusal.
TYPES: list[tuple[pa.DataType, pa.DataType, pa.DataType | None]] = [
    (pa.int32(), pa.int64(), pa.int64()),
    (pa.uint8(), pa.uint32(), pa.uint32()),
    (pa.null(), pa.int8(), pa.int8()),
    (pa.null(), pa.null(), pa.string()),
    (pa.string(), pa.large_string(), pa.large_string()),
    (pa.binary(), pa.large_binary(), pa.large_binary()),
    (pa.float32(), pa.float64(), pa.float64()),
    (pa.string(), pa.dictionary(pa.int32(), pa.string()), pa.string()),
    (pa.list_(pa.int32()), pa.list_(pa.int32()), pa.list_(pa.int32())),
    (pa.int64(), pa.uint64(), None),
    (pa.int64(), pa.float64(), None),
    (pa.int8(), pa.uint8(), None),
    (pa.decimal128(38, 10), pa.float64(), None),
    (pa.decimal128(10, 2), pa.decimal128(12, 2), None),
    (pa.timestamp("ns"), pa.timestamp("s"), None),
    (pa.date32(), pa.timestamp("s"), None),
    (pa.list_(pa.int32()), pa.list_(pa.int64()), None),
    (pa.struct([("a", pa.int64())]), pa.struct([("b", pa.int64())]), None),
    (pa.string(), pa.int64(), None),
]


@pytest.mark.parametrize(("one", "other", "both"), TYPES, ids=str)
def test_types_of_several_files(one: pa.DataType, other: pa.DataType, both: pa.DataType | None, tmp_path: Path) -> None:
    """They become one where that holds all values as they are."""
    for turn, kinds in enumerate([(one, other), (other, one)]):
        base = tmp_path / str(turn)
        base.mkdir()
        for place, kind in enumerate(kinds):
            pq.write_table(pa.table({"text": ["a"], "x": pa.nulls(1, kind)}), base / f"{place}.parquet")
        asked = ("artifact", "digest", BulkOptions(keep=("x",)), [base], find([base]))
        if both is None:
            with pytest.raises(InputError, match=r"do not agree on a column \('x' is"):
                make_plan(*asked)
        else:
            assert make_plan(*asked).schema.field("x").type == both


def test_shards_follow_the_bytes_of_each_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small rows before large ones tell nothing of these; small groups are put together."""
    monkeypatch.setattr("stcompile.bulk.readers.parquet.MOST_BYTES", 10_000)
    texts = ["a"] * 1000 + [f"{place:04}" * 1000 for place in range(8)] + ["b"] * 100
    table = pa.table({"text": texts})
    options: dict[str, Any] = {"use_dictionary": False, "compression": "none", "write_statistics": False}
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema, **options) as writer:
        for start, stop in ((0, 500), (500, 1000), (1000, 1008), (1008, 1108)):
            writer.write_table(table.slice(start, stop - start))
    (file,) = find([tmp_path])
    reader = reader_of(file, Wanted("text"))
    scan = reader.scan(800)
    stops = [*scan.starts[1:], scan.rows]
    # The second shard has small rows and one large one.
    assert scan.starts == (0, 800, 1002, 1004, 1006)
    schema = pa.schema([])
    assert [reader.read(start, stop, schema).texts for start, stop in zip(scan.starts, stops, strict=True)] == [
        texts[start:stop] for start, stop in zip(scan.starts, stops, strict=True)
    ]
    # In any order, and any part.
    assert reader.read(999, 1003, schema).texts == texts[999:1003]
    assert reader.read(3, 5, schema).texts == texts[3:5]


def _seen(reader: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    found: list[tuple[int, int]] = []
    real = reader._parquet.iter_batches

    def batches(*arguments: Any, **options: Any) -> Iterator[Any]:
        for batch in real(*arguments, **options):
            found.append((batch.num_rows, batch.nbytes))
            yield batch

    monkeypatch.setattr(reader._parquet, "iter_batches", batches)
    return iter([found])


def test_a_footer_that_hides_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dictionary of one large text: after the first batch they are of a few MB."""
    texts = ["a"] * 500 + ["w" * 400_000] * 500
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=1000)
    (file,) = find([tmp_path])
    reader = reader_of(file, Wanted("text"))
    assert reader.scan(1000).starts == (0,)
    (batches,) = _seen(reader, monkeypatch)
    for start in range(0, 1000, 100):
        assert reader.read(start, start + 100, pa.schema([])).texts == texts[start : start + 100]
    large = [size for _, size in batches if size > 8 << 20]
    assert len(large) == 1
    assert large[0] <= 256 * 400_010


def test_a_scan_keeps_no_records(tmp_path: Path) -> None:
    """Neither where nothing is carried nor where texts are; in few records there is enough to tell types."""
    jsonl(tmp_path / "a.jsonl", [{"text": "w" * 1_000_000, "id": "i" * 100_000, "n": 1} for _ in range(60)])
    (file,) = find([tmp_path])
    for carried, types in (((), []), (("id", "n"), [pa.string(), pa.int64()])):
        reader = reader_of(file, Wanted("text", carried))
        reader.scan(16)
        tracemalloc.start()
        scan = reader.scan(16)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (scan.rows, scan.schema.types) == (60, types)
        # Measured: 5.5 MB, of 66 MB of records.
        assert most < 8 << 20
