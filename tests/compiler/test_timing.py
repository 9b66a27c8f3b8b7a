"""Interleaved timing."""

from __future__ import annotations

import pytest

from stcompile.compiler.timing import Spread, interleave, speedup


def test_every_contender_has_every_round_and_the_order_rotates() -> None:
    calls: list[str] = []
    contenders = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    timings = interleave(contenders, 3)
    assert [len(timing.wall) for timing in timings.values()] == [3, 3, 3]
    assert [len(timing.cpu) for timing in timings.values()] == [3, 3, 3]
    # One untimed run of each, then three rounds that each begin with another
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"


def test_it_tells_of_each_round() -> None:
    told: list[str] = []
    interleave({"a": lambda: None}, 2, told.append)
    assert told == ["round 1 of 2", "round 2 of 2"]


def test_a_speedup_is_taken_round_by_round() -> None:
    found = speedup([2.0, 6.0, 3.0], [1.0, 2.0, 3.0])
    assert found == Spread(2.0, 1.0, 3.0)
    assert found.to_dict(1) == {"median": 2.0, "min": 1.0, "max": 3.0}


def test_rounds_that_do_not_belong_together_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        speedup([1.0], [1.0, 2.0])
