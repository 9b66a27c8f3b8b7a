"""Files in, files out: the story of a job, whichever engine does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stcompile.bulk.artifacts import digest_of
from stcompile.bulk.inputs import InputFile, find
from stcompile.bulk.journal import HOME, JOURNAL, LOCK, REJECTS, SUMMARY, Journal
from stcompile.bulk.local import in_processes, in_this_process
from stcompile.bulk.options import BulkOptions
from stcompile.bulk.plan import Plan, Shard, differences, make_plan
from stcompile.bulk.precision import RANGED
from stcompile.bulk.report import Progress, Silent, Watcher, summary
from stcompile.bulk.store import Store, is_local, opened
from stcompile.bulk.worker import Worker
from stcompile.bulk.writers import writer_of
from stcompile.errors import InputError
from stcompile.runtime.inputs import at_least_one

# Shards whose first rows tell the ranges of 8 bits.
_SAMPLED_SHARDS = 32


@dataclass(frozen=True)
class Engine:
    """Who does the shards.

    Attributes:
        name: `local` or `ray`.
        device: as of `stcompile.load`; `cuda` takes all GPUs there are where there are several workers.
        threads: of each worker.
        workers: processes, or Ray's actors, of which there are at least so many; None is one.
        most_workers: actors that Ray may start where the cluster has room; None is as `workers`, or where that is None
            too, as many as there is room for.
        address: of a Ray cluster; None starts one on this machine, or takes that of the environment.
    """

    name: str = "local"
    device: str = "cpu"
    threads: int | None = None
    workers: int | None = None
    most_workers: int | None = None
    address: str | None = None

    def check(self) -> None:
        """Whether there is such an engine.

        Raises:
            InputError: its name is unknown, or a number is out of range.
        """
        if self.name not in _ENGINES:
            raise InputError(f"unknown engine {self.name!r}: choose one of {', '.join(_ENGINES)}")
        for name in ("workers", "most_workers"):
            if getattr(self, name) is not None:
                at_least_one(name, getattr(self, name))
        if self.name != "ray" and (self.address or self.most_workers):
            raise InputError("an address and actors that come and go are Ray's: pass the engine ray, or leave them out")


@dataclass(frozen=True)
class Outcome:
    """What a run left.

    Attributes:
        summary: the counts of the job; None where it was stopped before its end.
        done: rows that this run did.
        seconds: that it took to encode them.
        tokens: that it read.
    """

    summary: dict[str, Any] | None
    done: int
    seconds: float
    tokens: int


def encode_files(
    artifact: str,
    inputs: Sequence[str],
    output: str,
    options: BulkOptions | None = None,
    *,
    engine: Engine | None = None,
    overwrite: bool = False,
    watch: Watcher | None = None,
) -> Outcome:
    """Encodes the rows of files into a folder of files; called again, it goes on where it stopped.

    Every row of the input is in the output once, or in `_rejects.jsonl` with the reason. The output is done when
    `_summary.json` is there. Its bytes do not depend on kills and resumptions (but for Lance, whose own names differ).

    Args:
        artifact: folder or address.
        inputs: files, folders and globs, or addresses of such.
        output: a folder that does not exist, is empty, or holds the same job.
        options: what becomes of each row.
        engine: who does it.
        overwrite: removes what an earlier job left in the output, and begins anew.
        watch: is told how far it is.

    Raises:
        InputError: the input, the options or the output will not do; the job in the output is another one.
        ArtifactError: there is no artifact, or the output cannot be written.
        MissingExtraError: a package is not installed.
    """
    options, engine, watch = options or BulkOptions(), engine or Engine(), watch or Silent()
    options.check()
    engine.check()
    writer_of(options.format, options.into)
    found = find(inputs)
    digest = digest_of(artifact)
    store = Store(output)
    _check_places(store, artifact, inputs)
    _check_free(store)
    with store.only_one(LOCK):
        journal = Journal(store)
        plan = _begun(journal, found, digest, options, overwrite)
        if plan is None:
            fs, path = opened(artifact)
            plan = make_plan(str(fs.unstrip_protocol(path)), digest, options, inputs, found)
            journal.begin(plan)
        elif (counts := journal.summary()) is not None:
            return Outcome(counts, 0, 0.0, 0)
        shards = list(plan.shards())
        todo = _left(journal, shards)
        progress = Progress(plan.rows, sum(shard.rows for shard in shards) - sum(shard.rows for shard in todo))
        if todo:
            _do(journal, engine, shards, todo, progress, watch)
        if _left(journal, shards):
            return Outcome(None, progress.done, progress.seconds, progress.tokens)
        return Outcome(_finished(journal, plan, shards), progress.done, progress.seconds, progress.tokens)


def _do(
    journal: Journal, engine: Engine, shards: list[Shard], todo: list[Shard], progress: Progress, watch: Watcher
) -> None:
    # What is wrong with the artifact or the options is known before anything is spread out.
    worker = Worker(journal.store.address, engine.device, engine.threads)
    try:
        if worker.plan.options.precision in RANGED and journal.ranges() is None:
            step = -(-len(shards) // _SAMPLED_SHARDS)
            worker.know_ranges(worker.sampled_ranges(shards[::step]))
        progress.begin()
        _ENGINES[engine.name](worker, engine, todo, progress, watch)
    finally:
        worker.close()


def _local(worker: Worker, engine: Engine, todo: Sequence[Shard], progress: Progress, watch: Watcher) -> None:
    devices = _devices(engine)
    if len(devices) == 1:
        in_this_process(worker, todo, progress, watch)
        return
    worker.close()
    threads = engine.threads or max(1, worker.encoder.threads // len(devices))
    in_processes(worker.journal.store.address, devices, threads, todo, progress, watch)


def _ray(worker: Worker, engine: Engine, todo: Sequence[Shard], progress: Progress, watch: Watcher) -> None:
    from stcompile.bulk.ray import on_ray  # noqa: PLC0415 - only where it is asked for

    worker.close()
    on_ray(worker.journal.store.address, engine, todo, progress, watch)


# How a job is done, by the engine's name.
_ENGINES: dict[str, Callable[[Worker, Engine, Sequence[Shard], Progress, Watcher], None]] = {
    "local": _local,
    "ray": _ray,
}


def _devices(engine: Engine) -> list[str]:
    """Of each process: GPUs by their numbers, the CPU as often as asked for."""
    workers = engine.workers or 1
    if engine.device == "cuda" and workers > 1:
        return [f"cuda:{index}" for index in range(workers)]
    return [engine.device] * workers


def _begun(
    journal: Journal, found: Sequence[InputFile], digest: str, options: BulkOptions, overwrite: bool
) -> Plan | None:
    """The job that was begun in the output and is to go on, or None where one is to begin."""
    store = journal.store
    store.clear_partial()
    store.clear_partial(HOME)
    store.clear_partial(JOURNAL)
    if overwrite:
        _remove(journal)
        return None
    plan = journal.plan()
    if plan is None:
        return None
    reasons = differences(plan, found, digest, options)
    if not reasons:
        return plan
    if not journal.done():
        _remove(journal)
        return None
    raise InputError(
        f"{store.root} holds another job ({'; '.join(reasons[:5])}): choose another output, or begin anew with "
        "--overwrite"
    )


def _remove(journal: Journal) -> None:
    """All that a job wrote, and nothing else; its plan goes last, by which the rest is known."""
    store = journal.store
    store.remove(SUMMARY)
    store.remove(REJECTS)
    plan = journal.plan()
    if plan is not None:
        writer = writer_of(plan.options.format, plan.options.into)
        there = set(store.entries())
        names = {name for shard in plan.shards() for name in writer.names(shard.name)}
        for name in sorted(names & there):
            store.remove(name)
    for name in store.names(HOME):
        if f"{HOME}/{name}" != LOCK:
            store.remove(f"{HOME}/{name}")
    store.remove(JOURNAL)


def _left(journal: Journal, shards: list[Shard]) -> list[Shard]:
    """Shards that have no journal entry, or whose files are not there as it says."""
    done, sizes = journal.done(), journal.store.names()
    left = []
    for shard in shards:
        entry = journal.entry(shard) if shard.name in done else None
        if entry is None or any(sizes.get(file["name"]) != file["bytes"] for file in entry["files"]):
            if entry is not None:
                journal.store.remove(f"{JOURNAL}/{shard.name}.json")
            left.append(shard)
    return left


def _finished(journal: Journal, plan: Plan, shards: list[Shard]) -> dict[str, Any]:
    entries = [entry for shard in shards if (entry := journal.entry(shard)) is not None]
    counts = summary(plan, entries)
    assert counts["written"] + counts["rejected"] == counts["rows"], "rows were lost"
    writer_of(plan.options.format, plan.options.into).finish(journal.store, entries)
    journal.note_rejects(plan, entries)
    journal.note_summary(counts)
    return counts


def _check_free(store: Store) -> None:
    """Whether the output is a job's own, or empty."""
    there = store.entries()
    if there and HOME not in there:
        raise InputError(
            f"{store.root} holds other files ({', '.join(there[:3])}): choose a folder that is empty or does not exist"
        )


def _check_places(store: Store, artifact: str, inputs: Sequence[str]) -> None:
    """Whether what is written would be read again as input, or lie in the artifact."""
    if not store.is_local:
        return
    output = Path(store.root).resolve()
    for what, address in (("the artifact", artifact), *(("the input", address) for address in inputs)):
        fs, path = opened(address)
        place = Path(path).resolve()
        if is_local(fs) and place.is_dir() and (output == place or place in output.parents):
            raise InputError(f"{store.root} is in {what} {address}: choose another place for the output")
