"""How many CPUs a process may use: affinity and both generations of container quotas."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stcompile.runtime.cpus import available_cpus

_AFFINITY = 8
_V2 = "cpu.max"
_V1_QUOTA, _V1_PERIOD = "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"


@pytest.fixture(autouse=True)
def _eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(_AFFINITY)), raising=False)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, _AFFINITY),
        ({_V2: "200000 100000\n"}, 2),
        ({_V2: "150000 100000\n"}, 2),
        ({_V2: "10000 100000\n"}, 1),
        ({_V2: "max 100000\n"}, _AFFINITY),
        ({_V2: "6400000 100000\n"}, _AFFINITY),
        ({_V2: "nonsense\n"}, _AFFINITY),
        ({_V2: ""}, _AFFINITY),
        ({_V1_QUOTA: "300000\n", _V1_PERIOD: "100000\n"}, 3),
        ({_V1_QUOTA: "25000\n", _V1_PERIOD: "50000\n"}, 1),
        ({_V1_QUOTA: "-1\n", _V1_PERIOD: "100000\n"}, _AFFINITY),
        ({_V1_QUOTA: "300000\n", _V1_PERIOD: "0\n"}, _AFFINITY),
        ({_V1_QUOTA: "300000\n"}, _AFFINITY),
        # both generations mounted: the newer one decides
        ({_V2: "100000 100000\n", _V1_QUOTA: "300000\n", _V1_PERIOD: "100000\n"}, 1),
    ],
)
def test_the_quota_cuts_the_affinity(files: dict[str, str], expected: int, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert available_cpus(tmp_path) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("3", 3), ("1", 1), ("64", _AFFINITY), ("2,4", 2), ("0", 1), ("", _AFFINITY), ("x", _AFFINITY)],
)
def test_the_numeric_libraries_own_variable_counts(
    asked: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert available_cpus(tmp_path) == expected


def test_a_system_without_affinity_counts_its_cpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    for count, expected in ((5, 5), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda found=count: found)
        assert available_cpus(tmp_path) == expected
