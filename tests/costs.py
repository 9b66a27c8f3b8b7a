"""What each test costs: seconds of CPU, its processes' included, and the ten dearest after every run.

Wall time says little on a machine that others use too; CPU is what a run must pay for anywhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest

CPU = "cpu_seconds"
SHOWN = 10


def _spent() -> float:
    """CPU seconds of this process, and of the processes that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--costs FILE`."""
    parser.addoption("--costs", metavar="FILE", help="write the CPU seconds of every test to FILE, as JSON")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Notes where a test begins."""
    item.stash[_BEGAN] = _spent()
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Lays a test's CPU seconds, fixtures included, into its last report, which a worker sends home."""
    if call.when == "teardown":
        item.user_properties.append((CPU, round(_spent() - item.stash[_BEGAN], 2)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the ten tests that took most, and what all took."""
    costs: dict[str, float] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == CPU:
                    costs[report.nodeid] = value
    if not costs:
        return
    terminalreporter.section(f"the {SHOWN} slowest of {len(costs)} tests, {sum(costs.values()) / 60:.1f} CPU minutes")
    for test in sorted(costs, key=lambda test: -costs[test])[:SHOWN]:
        terminalreporter.write_line(f"{costs[test]:7.1f} s  {test}")
    if file := terminalreporter.config.getoption("--costs"):
        Path(file).write_text(json.dumps(costs, indent=0), encoding="utf-8")


_BEGAN = pytest.StashKey[float]()
