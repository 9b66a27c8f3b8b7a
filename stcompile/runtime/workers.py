"""Several batches at once, and the next ones made ready meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

# Batches that wait for each worker: none idles while the next is padded, and few are held in memory.
_WAITING = 2


def in_parallel(jobs: Iterator[Job], run: Callable[[Job], Result], workers: int) -> Iterator[tuple[Job, Result]]:
    """Runs jobs on threads; yields each with its result, whichever is done first.

    At most `workers * (1 + _WAITING)` jobs are taken ahead of what was yielded. When a job fails, or the caller stops,
    those that run are waited for and those that wait are dropped.

    Args:
        jobs: made one at a time, on the caller's thread.
        run: what is done with each; called from several threads.
        workers: threads; 1 runs everything on the caller's own.
    """
    if workers == 1:
        for job in jobs:
            yield job, run(job)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="stcompile") as pool:
        flying: dict[Future[Result], Job] = {}
        try:
            for job in jobs:
                flying[pool.submit(run, job)] = job
                while len(flying) >= workers * (1 + _WAITING):
                    yield from _finished(flying)
            while flying:
                yield from _finished(flying)
        finally:
            for future in flying:
                future.cancel()


def ahead(items: Iterator[Job]) -> Iterator[Job]:
    """The same items in the same order, each made on a thread while the one before it is used."""
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="stcompile-ahead") as pool:
        coming: Future[Job | object] = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc] # the end is no item


def _finished(flying: dict[Future[Result], Job]) -> Iterator[tuple[Job, Result]]:
    """Takes what is done out of `flying`; waits until something is."""
    for future in wait(flying, return_when=FIRST_COMPLETED).done:
        yield flying.pop(future), future.result()
