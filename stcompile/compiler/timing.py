"""Timing of several contenders against each other, so that the machine's mood cancels out."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

# Some systems count a process's time in steps of 16 ms: a shorter run would take none at all.
_CPU_TICK = time.get_clock_info("process_time").resolution


@dataclass(frozen=True)
class Timing:
    """Seconds of every round of one contender.

    Attributes:
        wall: by the clock on the wall; what a user waits.
        cpu: by the clock of this process, all its threads together; other processes hardly disturb it.
    """

    wall: tuple[float, ...]
    cpu: tuple[float, ...]


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def to_dict(self, digits: int) -> dict[str, float]:
        """As JSON carries it, with so many decimals."""
        rounded = {"median": self.median, "min": self.low, "max": self.high}
        return {name: round(value, digits) for name, value in rounded.items()}


def interleave(
    contenders: Mapping[str, Callable[[], object]], rounds: int, tell: Callable[[str], None] = lambda _: None
) -> dict[str, Timing]:
    """Times all contenders in every round, so that a slow minute of the machine hits each of them.

    One untimed run of each comes first; the order rotates from round to round.

    Returns:
        name to its seconds, one of each clock for every round.
    """
    names = list(contenders)
    for name in names:
        contenders[name]()
    wall: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        tell(f"round {number + 1} of {rounds}")
        for name in rotated(names, number):
            started, busy = time.perf_counter(), time.process_time()
            contenders[name]()
            cpu[name].append(max(time.process_time() - busy, _CPU_TICK))
            wall[name].append(time.perf_counter() - started)
    return {name: Timing(tuple(wall[name]), tuple(cpu[name])) for name in names}


def rotated(items: Sequence[T], number: int) -> list[T]:
    """The order of round `number`: everyone is first, second and last equally often."""
    turn = number % len(items)
    return [*items[turn:], *items[:turn]]


def speedup(baseline: Sequence[float], contender: Sequence[float]) -> Spread:
    """How many times faster than the baseline, round by round.

    Raises:
        ValueError: they have not the same number of rounds.
    """
    return Spread.of([slow / fast for slow, fast in zip(baseline, contender, strict=True)])
