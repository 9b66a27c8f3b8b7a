"""The engine of one machine: one process, whose threads read, encode and write side by side; or several of them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as ready
from multiprocessing.queues import SimpleQueue
from typing import Any

from stcompile.bulk.plan import Shard
from stcompile.bulk.report import Progress, Watcher
from stcompile.bulk.worker import Opening, Worker
from stcompile.errors import StcompileError

# Seconds between two looks at what is going on.
_LOOKS = 0.2


def in_this_process(worker: Worker, todo: Sequence[Shard], progress: Progress, watch: Watcher) -> None:
    """Does shards one after the other: while one is encoded, the next is read and the one before is written.

    So there are three in memory, however many there are.

    Args:
        worker: opened on the job.
        todo: the shards.
        progress: what is counted in.
        watch: is told of it, and asked whether to go on after a shard.

    Raises:
        StcompileError: the output cannot be written, or the engine fails. What is done stays done.
    """
    # A thread each, so that a file is read in order.
    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as encoding, ThreadPoolExecutor(1) as writing:
        written: Future[Any] | None = None
        ahead = [reading.submit(worker.read, shard) for shard in todo[:1]]
        for number, shard in enumerate(todo):
            if watch.wants_stop():
                break
            rows = ahead.pop().result()
            ahead = [reading.submit(worker.read, following) for following in todo[number + 1 : number + 2]]
            running = encoding.submit(worker.encode, shard, rows)
            done, tokens, start = progress.done, progress.tokens, worker.encoder.counted
            while not wait([running], timeout=_LOOKS).done:
                now = worker.encoder.counted
                progress.done = done + min(now.texts - start.texts, shard.rows)
                progress.tokens = tokens + now.tokens - start.tokens
                watch(progress)
            encoded = running.result()
            progress.done, progress.tokens = done + shard.rows, tokens + encoded.tokens
            if written is not None:
                written.result()
            written = writing.submit(worker.write, shard, encoded)
            watch(progress)
        if written is not None:
            written.result()


def in_processes(openings: Sequence[Opening], todo: Sequence[Shard], progress: Progress, watch: Watcher) -> None:
    """Does shards in processes of their own, each with an engine of its own.

    Args:
        openings: of each process.
        todo, progress, watch: as of `in_this_process`.

    Raises:
        StcompileError: as `in_this_process`, or a process was killed.
    """
    # Forked children cannot use the engines they inherit.
    context = multiprocessing.get_context("spawn")
    free: SimpleQueue[Opening] = context.SimpleQueue()
    for opening in openings:
        free.put(opening)
    waiting = iter(todo)
    told, tells = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(len(openings), context, _open, (free, told))
    running: set[Future[Any]] = set()
    try:
        # One more each, so that nobody waits for the next.
        _submit(pool, waiting, running, 2 * len(openings))
        while running:
            done, _ = wait(running, timeout=_LOOKS, return_when=FIRST_COMPLETED)
            for future in done:
                rows, tokens = future.result()
                running.remove(future)
                progress.done += rows
                progress.tokens += tokens
            if not watch.wants_stop():
                _submit(pool, waiting, running, 2 * len(openings))
            watch(progress)
    except BrokenProcessPool as error:
        raise StcompileError(
            "a worker process ended before its work did: for lack of memory as a rule (the same command goes on; pass "
            "fewer --workers or a smaller --shard-rows), or in a script that does not begin its work under "
            'if __name__ == "__main__"'
        ) from error
    finally:
        # What is being done is done; then they end by themselves. A pool asks its processes one after the other, and
        # waits for ever where one was killed that held the lock of what they wait for.
        for future in running:
            future.cancel()
        wait(running)
        tells.close()
        pool.shutdown()
        told.close()


def _submit(pool: ProcessPoolExecutor, waiting: Iterator[Shard], running: set[Future[Any]], most: int) -> None:
    """Hands out shards until so many are; what is handed out is done also after a stop."""
    for shard in islice(waiting, max(0, most - len(running))):
        running.add(pool.submit(_do, shard))


# Of a worker process: what it works with, or why it cannot.
_worker: list[Worker | StcompileError] = []


def _open(free: SimpleQueue[Opening], told: Connection) -> None:
    # Ctrl-C reaches the whole group; what it means is decided where the job was begun.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_when_told, args=(told,), daemon=True).start()
    try:
        _worker.append(Worker(free.get()))
    except StcompileError as error:
        _worker.append(error)


def _do(shard: Shard) -> tuple[int, int]:
    worker = _worker[0]
    if isinstance(worker, StcompileError):
        raise worker
    return worker.run(shard)


def _end_when_told(told: Connection) -> None:
    """A pool's process waits for work for ever, also after whoever gave it was killed or needs no more of it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        # At the end of the pipe there is something to read: that it is closed.
        ready([told, parent.sentinel])
        os._exit(0)
