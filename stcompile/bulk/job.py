"""Files in, files out: the story of a job, whichever engine does it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stcompile.bulk.artifacts import digest_of
from stcompile.bulk.inputs import InputFile, find
from stcompile.bulk.journal import HOME, LOCK, Journal
from stcompile.bulk.local import in_processes, in_this_process
from stcompile.bulk.options import BulkOptions
from stcompile.bulk.plan import Plan, Shard, differences, make_plan
from stcompile.bulk.precision import RANGED
from stcompile.bulk.report import Progress, Silent, Watcher, summary
from stcompile.bulk.store import Store, opened
from stcompile.bulk.worker import Opening, Worker
from stcompile.bulk.writers import writer_of
from stcompile.errors import InputError, StcompileError
from stcompile.runtime.device import CPU
from stcompile.runtime.inputs import at_least_one

# Shards whose first rows tell the ranges of 8 bits.
_SAMPLED_SHARDS = 32

_ANEW = "choose another output, or begin anew with --overwrite"


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
    device: str = CPU
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
        if self.most_workers is not None and self.most_workers < (self.workers or 1):
            raise InputError(f"there cannot be at least {self.workers} workers and at most {self.most_workers}")


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
    artifact: str | os.PathLike[str],
    inputs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
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
        overwrite: removes what another job left in the output, or the same one that is done, and begins anew.
        watch: is told how far it is.

    Raises:
        InputError: the input, the options or the output will not do; the job in the output is another one.
        ArtifactError: there is no artifact, or the output cannot be written.
        MissingExtraError: a package is not installed.
    """
    options, engine, watch = (options or BulkOptions()).settled(), engine or Engine(), watch or Silent()
    engine.check()
    writer_of(options.format, options.into)
    addresses = [os.fspath(item) for item in inputs]
    found = find(addresses)
    home = _address_of(os.fspath(artifact))
    digest = digest_of(home)
    store = Store(os.fspath(output))
    _check_places(store, home, addresses, found)
    _check_free(store)
    with store.only_one(LOCK):
        job = _Job(Journal(store), Opening(store.address, home, engine.device, engine.threads))
        if not job.goes_on(found, digest, options, overwrite):
            # Before anything of another job goes: whether this one is possible.
            plan = make_plan(home, digest, options, addresses, found)
            Worker(job.opening, plan).close()
            job.begin(plan)
        done = job.summary()
        if done is not None:
            return Outcome(done, 0, 0.0, 0)
        progress = job.progress()
        if job.left:
            job.run(engine, progress, watch)
            if not job.is_done():
                if watch.wants_stop():
                    return Outcome(None, progress.done, progress.seconds, progress.tokens)
                raise StcompileError(
                    f"{len(job.left)} shards are not in {store.root} after the engine has ended: where that is a "
                    "folder of one machine, pass an address that all of them reach"
                )
        return Outcome(job.finish(found), progress.done, progress.seconds, progress.tokens)


class _Job:
    """One job in its output."""

    def __init__(self, journal: Journal, opening: Opening) -> None:
        self.journal = journal
        self.opening = opening
        self.plan: Plan
        self.left: list[Shard] = []

    def goes_on(self, found: Sequence[InputFile], digest: str, options: BulkOptions, overwrite: bool) -> bool:
        """Whether the job that is asked for was begun here.

        Raises:
            InputError: another one was.
        """
        self.journal.clear_partial()
        try:
            plan = self.journal.plan()
        except InputError:
            if overwrite:
                return False
            raise
        if plan is None:
            if self.journal.parts() and not overwrite:
                raise InputError(
                    f"{self.journal.store.root} holds vectors of a job that is not known any more: {_ANEW}"
                )
            return False
        reasons = differences(plan, found, digest, options)
        has_begun = bool(self.journal.parts() or self.journal.done() or self.journal.summary())
        if reasons and has_begun and not overwrite:
            raise InputError(f"{self.journal.store.root} holds another job ({'; '.join(reasons[:5])}): {_ANEW}")
        if reasons or (overwrite and self.journal.summary() is not None):
            return False
        self.plan = plan
        return True

    def begin(self, plan: Plan) -> None:
        """Begins a job in place of whatever was here."""
        self.journal.clear()
        self.journal.begin(plan)
        self.plan = plan

    def summary(self) -> dict[str, Any] | None:
        """The counts, where the job is done and all its files are there; whatever is missing is left to do."""
        counts = self.journal.summary()
        if not self.is_done() and counts is not None:
            self.journal.forget_summary()
            return None
        return counts

    def is_done(self) -> bool:
        """Looks which shards are left: without an entry, or whose files are not there as it says."""
        folder = writer_of(self.plan.options.format, self.plan.options.into).folder
        done, sizes = self.journal.done(), self.journal.store.names(folder)
        self.left = []
        for shard in self.plan.shards():
            entry = self.journal.entry(shard) if shard.name in done else None
            if entry is None or any(sizes.get(file["name"]) != file["bytes"] for file in entry["files"]):
                self.left.append(shard)
        return not self.left

    def progress(self) -> Progress:
        """Rows of the job, and those that earlier runs did."""
        return Progress(self.plan.rows, self.plan.rows - sum(shard.rows for shard in self.left))

    def run(self, engine: Engine, progress: Progress, watch: Watcher) -> None:
        """Does what is left, as far as it goes."""
        worker = Worker(self.opening, self.plan)
        try:
            if self.plan.options.precision in RANGED:
                shards = list(self.plan.shards())
                worker.know_ranges(shards[:: -(-len(shards) // _SAMPLED_SHARDS)])
            noted = self.journal.done()
            for shard in self.left:
                if shard.name in noted:
                    # What its entry said is not so any more.
                    self.journal.forget(shard)
            progress.begin()
            watch(progress)
            _ENGINES[engine.name](worker, engine, self.left, progress, watch)
        finally:
            worker.close()

    def finish(self, found: Sequence[InputFile]) -> dict[str, Any]:
        """Makes one thing of the shards, and counts.

        Raises:
            InputError: the input changed while it was read.
        """
        reasons = differences(
            self.plan, find([file.address for file in found]), self.plan.artifact_digest, self.plan.options
        )
        if reasons:
            raise InputError(f"the input changed while it was encoded ({'; '.join(reasons[:5])}): {_ANEW}")
        entries = [entry for shard in self.plan.shards() if (entry := self.journal.entry(shard)) is not None]
        counts = summary(self.plan, entries)
        assert counts["written"] + counts["rejected"] == counts["rows"], "rows were lost"
        writer_of(self.plan.options.format, self.plan.options.into).finish(self.journal.store, entries)
        shards = zip(self.plan.shards(), entries, strict=True)
        # Of workers that were killed since this run began: their shards were given to others.
        self.journal.clear_partial()
        self.journal.note_rejects(self.plan, {shard.name for shard, entry in shards if entry["rejected"]})
        self.journal.note_summary(counts)
        return counts


def _local(worker: Worker, engine: Engine, todo: Sequence[Shard], progress: Progress, watch: Watcher) -> None:
    count = engine.workers or 1
    if count == 1:
        in_this_process(worker, todo, progress, watch)
        return
    worker.close()
    threads = engine.threads or max(1, worker.encoder.threads // count)
    # GPUs by their numbers, the CPU as often as asked for.
    devices = [f"cuda:{index}" if engine.device == "cuda" else engine.device for index in range(count)]
    in_processes(
        [Opening(worker.opening.output, worker.opening.artifact, item, threads) for item in devices],
        todo,
        progress,
        watch,
    )


def _ray(worker: Worker, engine: Engine, todo: Sequence[Shard], progress: Progress, watch: Watcher) -> None:
    from stcompile.bulk.ray import on_ray  # noqa: PLC0415 - only where it is asked for

    worker.close()
    on_ray(worker.opening, engine, todo, progress, watch)


# How a job is done, by the engine's name.
_ENGINES: dict[str, Callable[[Worker, Engine, Sequence[Shard], Progress, Watcher], None]] = {
    "local": _local,
    "ray": _ray,
}


def _address_of(address: str) -> str:
    """The same wherever it is read, with its protocol."""
    fs, path = opened(address)
    return str(fs.unstrip_protocol(path))


def _check_free(store: Store) -> None:
    """Whether the output holds a job, or nothing."""
    there = store.entries()
    if there and HOME not in there:
        raise InputError(
            f"{store.root} holds other files ({', '.join(there[:3])}): choose a folder that is empty or does not exist"
        )


def _check_places(store: Store, artifact: str, inputs: Sequence[str], found: Sequence[InputFile]) -> None:
    """Whether what is written would be read again as input, or lie in the artifact."""
    mine = f"{store.address.rstrip('/')}/"
    again = [file.address for file in found if file.address.startswith(mine)]
    if again:
        raise InputError(f"{again[0]} is in the output, and would be input when the job goes on: name less")
    if not store.is_local:
        return
    output = Path(os.path.realpath(store.root))
    for what, address in (("the artifact", artifact), *(("the input", address) for address in inputs)):
        other = Store(address)
        place = Path(os.path.realpath(other.root))
        if other.is_local and place.is_dir() and (output == place or place in output.parents):
            raise InputError(f"{store.root} is in {what} {address}: choose another place for the output")
