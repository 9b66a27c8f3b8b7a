"""`stcompile encode --input`: files in and files out, shown while it goes on and stopped between two shards."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from stcompile.cli.console import INTERRUPTED, PARITY_FAILED, StoppedError, err, out, print_json, reader_may_leave
from stcompile.errors import InputError

if TYPE_CHECKING:
    from stcompile.bulk.job import Engine, Outcome
    from stcompile.bulk.options import BulkOptions
    from stcompile.bulk.report import Progress

# Seconds between two lines where there is no terminal to draw on.
_LINES = 30.0


@dataclass(frozen=True)
class Asked:
    """What the command line was asked for.

    Attributes:
        artifact: folder or address.
        inputs: files, folders, globs, addresses.
        output: a folder.
        options: what becomes of each row.
        engine: who does it.
        overwrite: whether an earlier job in the output goes.
        as_json: whether the counts are printed as JSON.
    """

    artifact: str
    inputs: Sequence[str]
    output: str
    options: BulkOptions
    engine: Engine
    overwrite: bool
    as_json: bool


def encode_in_bulk(asked: Asked) -> int:
    """Runs the job and prints its counts; returns the exit code."""
    from stcompile.bulk.job import encode_files  # noqa: PLC0415 - imports pyarrow and the engine

    with contextlib.suppress(OSError):
        err.print("Looking through the input ...", highlight=False)
    with _stoppable() as stop, _shown(stop) as watch:
        outcome = encode_files(
            asked.artifact,
            asked.inputs,
            asked.output,
            asked.options,
            engine=asked.engine,
            overwrite=asked.overwrite,
            watch=watch,
        )
    if outcome.summary is None:
        raise StoppedError(f"stopped; {outcome.done} rows were done and are kept, the same command goes on")
    with reader_may_leave():
        _print(outcome, asked)
    counts, why = outcome.summary, f"{asked.output}/_rejects.jsonl says why"
    unreadable = counts["unreadable_files"]
    amiss = []
    if unreadable:
        amiss.append(f"{unreadable} of the files could not be read, {why}; the rest is done")
    if counts["rows"] and not counts["written"]:
        amiss.append(f"none of the rows has a text that can be encoded, {why}")
    for sentence in amiss:
        err.print(f"stcompile: {sentence}", highlight=False, markup=False, soft_wrap=True)
    return PARITY_FAILED if amiss else 0


def workers_of(text: str | None) -> tuple[int | None, int | None]:
    """How many workers: `4`, or `1:8` for actors that come and go.

    Raises:
        InputError: it is neither.
    """
    if text is None:
        return None, None
    low, colon, high = text.partition(":")
    try:
        return int(low), int(high) if colon else None
    except ValueError as error:
        raise InputError(f"{text!r} is no number of workers: write 4, or 1:8 for Ray's that come and go") from error


def _print(outcome: Outcome, asked: Asked) -> None:
    counts: Any = outcome.summary
    if asked.as_json:
        print_json({**counts, "seconds": round(outcome.seconds, 3), "tokens": outcome.tokens})
        return
    out.print(f"encoded into {asked.output}", highlight=False, markup=False, soft_wrap=True)
    table = Table(show_header=False, box=None)
    rows = [
        ("rows", f"{counts['rows']:,}"),
        ("written", f"{counts['written']:,}"),
        ("rejected", f"{counts['rejected']:,}"),
        ("files", f"{len(counts['output']):,}"),
    ]
    if outcome.done:
        rate = outcome.done / outcome.seconds
        rows.append(("this run", f"{outcome.done:,} rows in {outcome.seconds:,.1f} s, {rate:,.0f} rows/s"))
    else:
        rows.append(("this run", "nothing was left to do"))
    if counts["rejected"]:
        rows.append(("reasons", "_rejects.jsonl"))
    for name, value in rows:
        table.add_row(name, value)
    out.print(table, highlight=False)


class _Stop:
    asked = False
    has_begun = False


@contextlib.contextmanager
def _stoppable() -> Iterator[_Stop]:
    """The first Ctrl-C lets the shards that are begun end, the second ends everything: both lose nothing."""
    stop = _Stop()

    def on_signal(*_: object) -> None:
        if not stop.has_begun:
            # Nothing was encoded yet: there is nothing to finish.
            raise KeyboardInterrupt
        if stop.asked:
            # Threads that compute cannot be told to stop; what is half written is no part of the output.
            os._exit(INTERRUPTED)
        stop.asked = True
        with contextlib.suppress(OSError, RuntimeError):
            err.print("\nFinishing the shards that are begun; once more ends at once.", highlight=False)

    before = {kind: signal.signal(kind, on_signal) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


class _Watch:
    """Tells of a run on standard error."""

    def __init__(self, stop: _Stop, bar: Bar | None) -> None:
        self._stop = stop
        self._bar = bar
        self._task: Any = None
        self._next = 0.0

    def wants_stop(self) -> bool:
        """As `Watcher`."""
        return self._stop.asked

    def __call__(self, progress: Progress) -> None:
        """As `Watcher`; who does not listen any more is no reason to stop."""
        self._stop.has_begun = True
        with contextlib.suppress(OSError):
            self._show(progress)

    def _show(self, progress: Progress) -> None:
        fields: dict[str, Any] = {
            "rows_s": f"{progress.done / progress.seconds:,.0f} rows/s",
            "tokens_s": f"{progress.tokens / progress.seconds:,.0f} tokens/s",
            "memory": f"{_resident() / 1e6:,.0f} MB",
        }
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task("", total=progress.rows, **fields)
            self._bar.update(self._task, completed=progress.before + progress.done, **fields)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINES
            left = progress.seconds_left
            ends = "" if left is None else f", {left:,.0f} s left"
            done = f"{progress.before + progress.done:,} of {progress.rows:,} rows"
            err.print(f"{done}, {', '.join(fields.values())}{ends}", highlight=False)


@contextlib.contextmanager
def _shown(stop: _Stop) -> Iterator[_Watch]:
    if not err.is_terminal:
        yield _Watch(stop, None)
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        *(TextColumn(f"{{task.fields[{name}]}}") for name in ("rows_s", "tokens_s", "memory")),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=err) as bar:
        yield _Watch(stop, bar)


def _resident() -> float:
    """Bytes of memory of this process; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0.0
    return float(pages * os.sysconf("SC_PAGE_SIZE"))
