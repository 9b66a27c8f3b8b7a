"""A job is one job: of one artifact, one input, one plan; nothing else's vectors are taken for its own, or lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stcompile.bulk.inputs import find
from stcompile.bulk.job import Outcome, encode_files
from stcompile.bulk.journal import Journal
from stcompile.bulk.options import BulkOptions
from stcompile.bulk.plan import make_plan
from stcompile.bulk.report import Progress
from stcompile.bulk.store import Store
from stcompile.bulk.worker import Opening, Worker
from stcompile.errors import ArtifactError, InputError, StcompileError
from tests.bulk.files import bytes_of, jsonl, parquet, rejects_of, rows_of, summary_of
from tests.conftest import Compiled

CASE, OTHER = "static_normalize", "static_dense"
TEXTS = [f"text {place}" for place in range(12)]
OPTIONS = BulkOptions(shard_rows=3)


class StopAfter:
    """Watches until so many rows are done, and does something then."""

    def __init__(self, rows: int, then: Callable[[], object] = lambda: None) -> None:
        self._rows, self._then, self._stops = rows, then, False

    def __call__(self, progress: Progress) -> None:
        if progress.done >= self._rows and not self._stops:
            self._stops = True
            self._then()

    def wants_stop(self) -> bool:
        return self._stops


class Then(StopAfter):
    """The same without a stop."""

    def wants_stop(self) -> bool:
        return False


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return jsonl(tmp_path / "a.jsonl", [{"text": text} for text in TEXTS])


@pytest.fixture
def job(tmp_path: Path, source: Path, compiled: Compiled) -> Callable[..., Outcome]:
    def run(artifact: Path | None = None, options: BulkOptions = OPTIONS, **how: Any) -> Outcome:
        return encode_files(artifact or compiled(CASE), [source], tmp_path / "out", options, **how)

    return run


def test_the_artifact_may_move_but_not_change(tmp_path: Path, job: Callable[..., Outcome], compiled: Compiled) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(compiled(CASE), first)
    assert job(first, watch=StopAfter(3)).summary is None
    first.rename(second)
    shutil.copytree(compiled(OTHER), first)
    with pytest.raises(InputError, match="another artifact"):
        job(first)
    assert job(second).summary is not None
    assert len({len(vector) for vector in rows_of(tmp_path / "out")["embedding"].to_pylist()}) == 1


def test_an_artifact_that_is_replaced_while_it_is_opened(tmp_path: Path, source: Path, compiled: Compiled) -> None:
    plan = make_plan(str(compiled(CASE)), "0" * 64, OPTIONS, [], find([str(source)]))
    with pytest.raises(ArtifactError, match="is another artifact than the job was begun with"):
        Worker(Opening(str(tmp_path / "out"), str(compiled(CASE))), plan)


def test_entries_of_another_plan_are_none(tmp_path: Path, job: Callable[..., Outcome], source: Path) -> None:
    """What a kill in the middle of --overwrite leaves: the entries of the old job beside the plan of the new one."""
    job(options=replace(OPTIONS, precision="int8"))
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "out" / "_stcompile", kept)
    shutil.rmtree(tmp_path / "out")
    rows = [{"text": text[::-1]} for text in TEXTS]
    jsonl(source, rows)
    clean = job(options=replace(OPTIONS, precision="int8"))
    expected = bytes_of(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    job(options=replace(OPTIONS, precision="int8"), watch=StopAfter(0))
    for name in ("journal", "ranges.json"):
        place = tmp_path / "out" / "_stcompile" / name
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        shutil.copytree(kept / name, place) if (kept / name).is_dir() else shutil.copy(kept / name, place)
    again = job(options=replace(OPTIONS, precision="int8"))
    assert again.done == clean.done == len(TEXTS)
    assert bytes_of(tmp_path / "out") == expected


def test_a_worker_of_an_old_job_writes_no_entry(
    tmp_path: Path, job: Callable[..., Outcome], compiled: Compiled
) -> None:
    job(watch=StopAfter(3))
    left_over = Worker(Opening(str(tmp_path / "out"), str(compiled(CASE))))
    job(options=replace(OPTIONS, shard_rows=4), overwrite=True, watch=StopAfter(4))
    shard = list(left_over.plan.shards())[-1]
    with pytest.raises(InputError, match="was given to another job meanwhile"):
        left_over.run(shard)


@pytest.mark.parametrize("folder", ["", "_stcompile", "_stcompile/journal", "_stcompile/rejects"])
def test_nothing_is_left_of_a_worker_killed_while_others_go_on(
    folder: str, tmp_path: Path, job: Callable[..., Outcome]
) -> None:
    """Ray gives a dead actor's shard to another one, in the same run."""
    job(watch=StopAfter(3))
    half = tmp_path / "out" / folder / ".part-00000000.partial-0123456789abcdef"

    def killed() -> None:
        half.parent.mkdir(exist_ok=True)
        half.write_bytes(b"PAR1")

    assert job(watch=Then(6, killed)).summary is not None
    assert not half.exists()


def test_input_that_changes_while_it_is_read(tmp_path: Path, job: Callable[..., Outcome], source: Path) -> None:
    def change() -> None:
        jsonl(source, [{"text": text.upper()} for text in TEXTS])

    with pytest.raises(InputError, match=r"the input changed while it was encoded \(.*a\.jsonl has changed\)"):
        job(watch=Then(6, change))
    assert not (tmp_path / "out" / "_summary.json").exists()
    with pytest.raises(InputError, match=r"holds another job \(.*a\.jsonl has changed\)"):
        job()


def test_a_read_error_that_passes_rejects_nothing(tmp_path: Path, job: Callable[..., Outcome], source: Path) -> None:
    away = source.with_suffix(".away")
    with pytest.raises(StcompileError):
        job(watch=Then(0, lambda: source.rename(away)))
    away.rename(source)
    assert job().summary is not None
    assert rejects_of(tmp_path / "out") == []
    assert rows_of(tmp_path / "out")["row"].to_pylist() == list(range(len(TEXTS)))


def test_to_begin_anew_removes_only_what_is_replaced(tmp_path: Path, job: Callable[..., Outcome]) -> None:
    job()
    before = bytes_of(tmp_path / "out")
    # What is not possible leaves all as it was.
    for options in (replace(OPTIONS, prompt_name="typo"), replace(OPTIONS, keep=("typo",))):
        with pytest.raises(InputError):
            job(options=options, overwrite=True)
        assert bytes_of(tmp_path / "out") == before
    other = replace(OPTIONS, shard_rows=5)
    assert job(options=other, overwrite=True, watch=StopAfter(5)).summary is None
    # Asked for again after a stop, it goes on.
    finished = job(options=other, overwrite=True)
    assert 0 < finished.done < len(TEXTS)
    assert rows_of(tmp_path / "out").num_rows == len(TEXTS)


def test_an_object_store_loses_no_neighbour(source: Path, compiled: Compiled) -> None:
    """`run*` is a name, not a pattern."""
    import fsspec

    store = fsspec.filesystem("memory")
    for name in ("run1", "run*", "run[1]"):
        encode_files(compiled(CASE), [source], f"memory://bucket/{name}", OPTIONS)
    neighbours = {path: store.cat_file(path) for path in store.find("/bucket/run1")}
    for name in ("run*", "run[1]"):
        encode_files(compiled(CASE), [source], f"memory://bucket/{name}", OPTIONS, overwrite=True)
    assert {path: store.cat_file(path) for path in store.find("/bucket/run1")} == neighbours
    store.rm("/bucket", recursive=True)


@pytest.mark.parametrize("damage", ["no journal", "cut plan", "old plan", "no plan"])
def test_a_finished_output_is_not_replaced_unasked(damage: str, tmp_path: Path, job: Callable[..., Outcome]) -> None:
    job()
    home = tmp_path / "out" / "_stcompile"
    plan = home / "plan.json"
    if damage == "no journal":
        shutil.rmtree(home / "journal")
        (tmp_path / "out" / "_summary.json").unlink()
    elif damage == "no plan":
        plan.unlink()
    else:
        plan.write_text('{"schema_version": 1}' if damage == "old plan" else plan.read_text(encoding="utf-8")[:99])
    parts = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.parquet")}
    other = replace(OPTIONS, precision="binary")
    with pytest.raises(InputError):
        job(options=other)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.parquet")} == parts
    assert job(options=other, overwrite=True).done == len(TEXTS)


def test_a_cut_entry_is_none(tmp_path: Path, job: Callable[..., Outcome]) -> None:
    job()
    expected = bytes_of(tmp_path / "out")
    (tmp_path / "out" / "_summary.json").write_text("{}")
    entries = sorted((tmp_path / "out" / "_stcompile" / "journal").iterdir())
    for entry, content in zip(entries, ("{}", "[]", "", '{"plan"'), strict=True):
        entry.write_text(content)
    assert job().done == len(TEXTS)
    assert bytes_of(tmp_path / "out") == expected


def test_a_part_that_is_lost_after_the_end_is_made_again(tmp_path: Path, job: Callable[..., Outcome]) -> None:
    job()
    expected = bytes_of(tmp_path / "out")
    sorted((tmp_path / "out").glob("*.parquet"))[1].unlink()
    assert job().done == 3
    assert bytes_of(tmp_path / "out") == expected


def test_output_that_would_be_input(tmp_path: Path, compiled: Compiled) -> None:
    (tmp_path / "data").mkdir()
    parquet(tmp_path / "data" / "a.parquet", [{"text": "a"}])
    pattern, out = str(tmp_path / "data" / "**" / "*.parquet"), tmp_path / "data" / "vectors"
    encode_files(compiled(CASE), [pattern], out)
    before = bytes_of(out)
    with pytest.raises(InputError, match="is in the output, and would be input when the job goes on"):
        encode_files(compiled(CASE), [pattern], out, overwrite=True)
    assert bytes_of(out) == before


def test_a_shard_without_any_row_in_each_form(tmp_path: Path, compiled: Compiled) -> None:
    file = jsonl(tmp_path / "a.jsonl", [{"text": None}] * 3 + [{"text": "a"}])
    for form in ("parquet", "npy", "lance"):
        outcome = encode_files(compiled(CASE), [file], tmp_path / form, replace(OPTIONS, format=form))
        assert outcome.summary is not None
        assert (outcome.summary["written"], outcome.summary["rejected"]) == (1, 3)
    # Pieces that are lost are made again.
    shutil.rmtree(tmp_path / "lance" / "data.lance")
    assert encode_files(compiled(CASE), [file], tmp_path / "lance", replace(OPTIONS, format="lance")).done == 1


def test_lance_is_written_to_a_disk(source: Path, compiled: Compiled) -> None:
    with pytest.raises(InputError, match="Lance is written to a disk, and memory:///bucket/out is none"):
        encode_files(compiled(CASE), [source], "memory://bucket/out", replace(OPTIONS, format="lance"))


@pytest.mark.parametrize("kind", [pa.uint64(), pa.int8(), pa.string()])
def test_ids_in_numpys_files_are_those_of_the_input(kind: pa.DataType, tmp_path: Path, compiled: Compiled) -> None:
    largest = {pa.uint64(): 2**63 + 1, pa.int8(): 127, pa.string(): "größer"}[kind]
    table = pa.table({"text": ["a", "b"], "id": pa.array([largest, 1 if kind != pa.string() else "1"], kind)})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    encode_files(compiled(CASE), [tmp_path / "a.parquet"], tmp_path / "out", BulkOptions(id="id", format="npy"))
    found = np.load(tmp_path / "out" / "part-00000000-000000000000.ids.npy")
    assert found.tolist() == table["id"].to_pylist()
    assert kind == pa.string() or found.dtype == kind.to_pandas_dtype()


def test_ids_that_numpys_files_cannot_hold(tmp_path: Path, compiled: Compiled) -> None:
    rows = [{"text": "t", "id": value} for value in ("a", "a\0", None, "x" * 300, "b")]
    file = jsonl(tmp_path / "a.jsonl", rows)
    encode_files(compiled(CASE), [file], tmp_path / "out", BulkOptions(id="id", format="npy"))
    assert np.load(tmp_path / "out" / "part-00000000-000000000000.ids.npy").tolist() == ["a", "b"]
    assert [row for _, row, _ in rejects_of(tmp_path / "out")] == [1, 2, 3]
    parquet(tmp_path / "b.parquet", [{"text": "t", "id": 1.5}])
    with pytest.raises(InputError, match="the ids in 'id' are double, and numpy's files hold whole numbers and texts"):
        encode_files(compiled(CASE), [tmp_path / "b.parquet"], tmp_path / "o2", BulkOptions(id="id", format="npy"))


def test_8_bits_of_an_input_that_begins_with_nothing(tmp_path: Path, compiled: Compiled) -> None:
    options = BulkOptions(precision="int8", shard_rows=100)
    cases: dict[str, list[str | None]] = {"late": [*[None] * 70, "a", "b"], "none": [None] * 3, "one": ["a"]}
    for name, rows in cases.items():
        file = jsonl(tmp_path / f"{name}.jsonl", [{"text": text} for text in rows])
        outcome = encode_files(compiled(CASE), [file], tmp_path / name, options)
        assert outcome.summary is not None
        assert outcome.summary["written"] == len(rows) - rows.count(None)


def test_a_process_that_cannot_open_says_why(tmp_path: Path, job: Callable[..., Outcome], compiled: Compiled) -> None:
    from stcompile.bulk.local import in_processes

    job(watch=StopAfter(3))
    plan = Journal(Store(str(tmp_path / "out"))).plan()
    assert plan is not None
    missing = Opening(str(tmp_path / "out"), str(tmp_path / "missing"))
    with pytest.raises(ArtifactError, match="missing"):
        in_processes([missing, missing], list(plan.shards()), Progress(12, 0), StopAfter(99))


def test_workers_find_shards_done(tmp_path: Path, job: Callable[..., Outcome], compiled: Compiled) -> None:
    """Two runs of one job on an object store, which has no locks."""
    from stcompile.bulk.local import in_processes

    job()
    plan = Journal(Store(str(tmp_path / "out"))).plan()
    assert plan is not None
    progress = Progress(12, 0)
    opening = Opening(str(tmp_path / "out"), str(compiled(CASE)))
    in_processes([opening, opening], list(plan.shards()), progress, Then(99))
    assert progress.done == 12


def test_numpys_numbers_and_lists_mean_the_same_job(job: Callable[..., Outcome]) -> None:
    job(options=replace(OPTIONS, truncate_dim=np.int64(8), keep=[]))  # type: ignore[arg-type]
    assert job(options=replace(OPTIONS, truncate_dim=8)).done == 0


def test_who_reads_the_messages_may_leave(tmp_path: Path, source: Path, compiled: Compiled) -> None:
    typed = f"{sys.executable} -m stcompile encode {compiled(CASE)} --input {source} -o {tmp_path}"
    for name, shell in (("first", "2>&1 | head -1"), ("second", "2>/dev/null | true"), ("third", "2>&1 | true")):
        line = f"{typed}/{name} {shell}; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", line], check=False, capture_output=True)
        assert done.returncode == 0, name
        assert summary_of(tmp_path / name)["written"] == len(TEXTS)
