"""Batches on several threads: all of them, few at a time, and nothing left running behind an error."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from stcompile.runtime.workers import ahead, in_parallel

_WORKERS = pytest.mark.parametrize("workers", [1, 2, 5])


@_WORKERS
def test_every_job_comes_with_its_own_result(workers: int) -> None:
    found = dict(in_parallel(iter(range(100)), lambda job: job * job, workers))
    assert found == {job: job * job for job in range(100)}


@_WORKERS
def test_no_jobs_are_no_results(workers: int) -> None:
    assert list(in_parallel(iter(()), str, workers)) == []


def test_so_many_run_at_once() -> None:
    meeting = threading.Barrier(3, timeout=10)
    found = in_parallel(iter(range(3)), lambda _: meeting.wait(), 3)
    assert sorted(result for _, result in found) == [0, 1, 2]


@_WORKERS
def test_few_jobs_are_made_ahead(workers: int) -> None:
    made = 0

    def jobs() -> Iterator[int]:
        nonlocal made
        for job in range(200):
            made = job + 1
            yield job

    for yielded, _ in enumerate(in_parallel(jobs(), lambda job: job, workers), start=1):
        assert made - yielded <= 3 * workers


@_WORKERS
def test_what_fails_is_raised_and_the_rest_is_dropped(workers: int) -> None:
    done: list[int] = []

    def run(job: int) -> int:
        if job == 3:
            raise ValueError("job 3")
        time.sleep(0.002)
        done.append(job)
        return job

    with pytest.raises(ValueError, match="job 3"):
        list(in_parallel(iter(range(1000)), run, workers))
    count = len(done)
    assert count < 1000
    time.sleep(0.05)
    assert len(done) == count, "nothing runs on"


@_WORKERS
def test_a_failure_while_jobs_are_made_is_raised(workers: int) -> None:
    def jobs() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(in_parallel(jobs(), lambda job: job, workers))


def test_who_stops_listening_stops_the_work() -> None:
    done: list[int] = []
    results = in_parallel(iter(range(1000)), done.append, 2)
    next(results)
    results.close()  # type: ignore[attr-defined] # of a generator
    count = len(done)
    time.sleep(0.05)
    assert len(done) == count < 1000


def test_ahead_keeps_items_and_order() -> None:
    assert list(ahead(iter(range(50)))) == list(range(50))
    assert list(ahead(iter(()))) == []


def test_ahead_makes_the_next_item_while_one_is_used() -> None:
    asked = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        asked.set()
        yield 1

    coming = ahead(items())
    assert next(coming) == 0
    assert asked.wait(10), "nobody asked for it yet"
    assert list(coming) == [1]


def test_ahead_raises_where_the_item_would_be() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise ValueError("the second")

    coming = ahead(items())
    assert next(coming) == 0
    with pytest.raises(ValueError, match="the second"):
        next(coming)
