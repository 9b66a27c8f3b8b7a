"""After kill -9 at any moment the same command gives what it would have given without."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bulk.files import rows_of
from tests.bulk.killing import ON_RAY, ROWS, command, demonstrate, entries, make_input
from tests.conftest import Compiled

NOTHING_WRONG = {"lost": 0, "doubled": 0, "different": 0, "partial": 0}


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.engines)])
def test_nothing_is_lost_on_this_machine(kills: int, tmp_path: Path, compiled: Compiled) -> None:
    found = demonstrate(compiled("pool_mean"), tmp_path, kills, [], ("driver",))
    assert found.items() >= {**NOTHING_WRONG, "kills": kills}.items()


@pytest.mark.engines
def test_nothing_is_lost_in_several_processes(tmp_path: Path, compiled: Compiled) -> None:
    found = demonstrate(compiled("pool_mean"), tmp_path, 6, ["--workers", "2"], ("driver", "worker", "tree"))
    assert found.items() >= {**NOTHING_WRONG, "kills": 6}.items()


# As the test above met it once in a hundred: the work is done, and one of the processes is killed that wait for more.
_KILLED_AT_THE_END = """
import os, signal, sys
from concurrent.futures import process
from stcompile.bulk import Engine, BulkOptions, encode_files

ask = process._ExecutorManagerThread.join_executor_internals

def killed(self):
    for pid in list(self.processes)[:1]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    ask(self)

if __name__ == "__main__":
    process._ExecutorManagerThread.join_executor_internals = killed
    artifact, source, output = sys.argv[1:]
    encode_files(artifact, [source], output, BulkOptions(id="id"), engine=Engine(workers=2))
"""


@pytest.mark.processes
def test_a_process_that_is_killed_when_all_is_done_holds_nobody_up(tmp_path: Path, compiled: Compiled) -> None:
    make_input(tmp_path)
    script = tmp_path / "script.py"
    script.write_text(_KILLED_AT_THE_END, encoding="utf-8")
    asked = [sys.executable, str(script), str(compiled("pool_mean")), str(tmp_path / "in"), str(tmp_path / "out")]
    subprocess.run(asked, check=True, timeout=120)
    assert rows_of(tmp_path / "out").num_rows == ROWS - ROWS // 50


@pytest.mark.engines
def test_nothing_is_lost_on_ray(tmp_path: Path, compiled: Compiled) -> None:
    """The one who started it, an actor, and everything at once; the bytes are those of one machine without Ray."""
    found = demonstrate(compiled("pool_mean"), tmp_path, 20, ON_RAY, ("driver", "worker", "tree"))
    assert found.items() >= {**NOTHING_WRONG, "kills": 20}.items()


def test_ctrl_c_ends_after_a_shard_and_says_how_to_go_on(tmp_path: Path, compiled: Compiled) -> None:
    make_input(tmp_path)
    typed = command(compiled("pool_mean"), tmp_path, tmp_path / "out", [])
    process = subprocess.Popen(typed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while entries(tmp_path / "out") < 2:
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "rows were done and are kept, the same command goes on" in said
    assert not (tmp_path / "out" / "_summary.json").exists()
    done = entries(tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.parquet"))) == done
    finished = subprocess.run(typed, capture_output=True, text=True, check=True)
    assert "4,000" in finished.stdout
    assert rows_of(tmp_path / "out").num_rows == ROWS - ROWS // 50
