"""How many CPUs this process may really use."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cpus(cgroup: Path = _CGROUP) -> int:
    """CPUs this process may use: its affinity, cut by the container's quota (cgroup v2, then v1) and OMP_NUM_THREADS.

    `os.cpu_count()` is the host's number: in a container limited to two of sixty-four CPUs, an engine
    that believes it runs thirty times too many threads.

    Returns:
        at least 1; a fractional quota is rounded up.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quota = _quota(cgroup)
    limits = (count, None if quota is None else math.ceil(quota), _asked())
    return max(1, min(limit for limit in limits if limit is not None))


def _asked() -> int | None:
    """What the variable asks for that all numeric libraries heed; of a list, one entry a nested level, the first."""
    with contextlib.suppress(ValueError):
        return max(1, int(os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]))
    return None


def _quota(cgroup: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        limit, period = (cgroup / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        limit_us = int((cgroup / "cpu/cpu.cfs_quota_us").read_text())
        period_us = int((cgroup / "cpu/cpu.cfs_period_us").read_text())
        return None if limit_us <= 0 else limit_us / period_us
    return None
