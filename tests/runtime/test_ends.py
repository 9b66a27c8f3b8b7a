"""The interpreter ends while daemon threads encode: calls in flight end first, and nothing ends by a signal."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from stcompile.runtime.forks import _Gate
from tests.conftest import Quick
from tests.daemons import ended

_SECONDS = 60


def test_the_end_waits_for_calls_in_flight_and_lets_no_other_thread_begin() -> None:
    gate, inside, go_on, begun = _Gate(), threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        with gate:
            inside.set()
            go_on.wait(_SECONDS)

    def later() -> None:
        with gate:
            begun.set()

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    assert inside.wait(_SECONDS)
    threading.Timer(0.2, go_on.set).start()
    gate.at_end()
    assert go_on.is_set(), "the end did not wait"
    threading.Thread(target=later, daemon=True).start()
    assert not begun.wait(0.2), "a call began after the end"
    # A handler of the caller's own, which is called after ours, may still encode.
    with gate:
        pass


@pytest.mark.processes
@pytest.mark.parametrize("target", ["onnx-fp32", "openvino-fp32"])
def test_a_process_with_daemons_at_work_ends_as_any_other(target: str, quick: Quick, tmp_path: Path) -> None:
    """Without the gate every one of six ended by SIGABRT."""
    folder = quick("full_stack", target).folder
    for delay in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3):
        done = ended(folder, delay)
        assert (done.returncode, done.stderr) == (0, "")
