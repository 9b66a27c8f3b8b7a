"""The contenders' processes, and jobs for them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._common import last_line
from stcompile.compiler.timing import Timing, rotated
from stcompile.errors import InputError

WORKER = Path(__file__).with_name("worker.py")


class Process:
    """One contender, loaded and waiting for jobs; idle while others work.

    Args:
        name: for errors.
        python: interpreter of its environment.
        settings: `adapter`, `model`, `threads`, `options` and `cpus`, as `worker.py` reads them.

    Raises:
        InputError: on the first job, if it did not start.
    """

    def __init__(self, name: str, python: Path, settings: dict[str, Any]) -> None:
        self.name = name
        # A file, not a pipe: nobody reads what it says until it fails.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process lives
        self._child = subprocess.Popen(
            [str(python), str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env={**_offline(), **_limits(settings["threads"])},
        )
        self._tell({"prepare": False, **settings})

    def ask(self, do: str, texts: Path, **options: Any) -> dict[str, Any]:
        """One job, see `worker.py`.

        Raises:
            InputError: the process ended instead; its last line says why.
        """
        assert self._child.stdout is not None
        self._tell({"do": do, "texts": str(texts), **options})
        line = self._child.stdout.readline()
        if not line:
            self._said.seek(0)
            raise InputError(f"{self.name} did not run: {reason(self._said.read().decode(errors='replace'))}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _tell(self, what: dict[str, Any]) -> None:
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `ask` finds no answer then, and says why
            self._child.stdin.write(json.dumps(what) + "\n")
            self._child.stdin.flush()

    def close(self) -> None:
        """Ends the process."""
        self._child.kill()
        self._child.wait()
        self._said.close()


def prepare(name: str, python: Path, settings: dict[str, Any]) -> dict[str, float]:
    """Runs an adapter's `prepare` in its environment.

    Returns:
        `wall_seconds`, `cpu_seconds` and `peak_mb` of it.

    Raises:
        InputError: it failed; the error's first line says why.
    """
    done = subprocess.run(
        [str(python), str(WORKER)],
        input=json.dumps({"prepare": True, **settings}) + "\n",
        capture_output=True,
        text=True,
        check=False,
        env=_offline(),
    )
    if done.returncode:
        raise InputError(f"{name} could not be made: {reason(done.stderr)}")
    taken: dict[str, float] = json.loads(done.stdout)
    return taken


def reason(said: str) -> str:
    """The first line of the error that ended a process, or the last line of all where there is no traceback."""
    _, traced, rest = said.rpartition("Traceback (most recent call last):")
    lines = [line for line in rest.splitlines() if line and not line[0].isspace()]
    return lines[0] if traced and lines else last_line(said)


def take_turns(processes: Sequence[Process], do: str, texts: Path, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Each process's answers to one job in every round, the order rotating; one round before them is not counted."""
    found: dict[str, list[dict[str, Any]]] = {process.name: [] for process in processes}
    for number in range(rounds + 1):
        for process in rotated(processes, number):
            answer = process.ask(do, texts)
            if number:
                found[process.name].append(answer)
    return found


def timed_turns(processes: Sequence[Process], texts: Path, rounds: int) -> dict[str, Timing]:
    """Seconds of every round of each process."""
    return {
        name: Timing(tuple(answer["wall"] for answer in answers), tuple(answer["cpu"] for answer in answers))
        for name, answers in take_turns(processes, "encode", texts, rounds).items()
    }


def first_vector(name: str, python: Path, settings: dict[str, Any], text: Path) -> float:
    """Seconds from the start of a fresh process to its first vector."""
    started = time.perf_counter()
    process = Process(name, python, settings)
    try:
        process.ask("single", text)
        return time.perf_counter() - started
    finally:
        process.close()


def _offline() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1"}


def _limits(threads: int) -> dict[str, str]:
    return {
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), str(threads)),
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
    }
