"""A fork copies one thread alone, an interpreter's end leaves one: neither may tear engines and tokenizers."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import threading
import time
from pathlib import Path
from threading import Condition, get_ident
from types import TracebackType

# A fork goes ahead after so many seconds, whatever runs: it must never hang for a run that does.
_LONGEST_WAIT = 60.0

# And after so many where threads run that no call of ours keeps busy: they may be another library's.
_LONGEST_UNREST = 0.5


class _Gate:
    """Calls of engines and tokenizers in flight, which a fork of another thread waits for, and the interpreter's end.

    What an engine's threads held at that moment, the child would wait for without end. One call is a batch, so a fork
    waits for milliseconds; calls that come meanwhile wait for the fork. Never entered twice by one thread. A pool's
    threads look for more work for a moment after a call, and take its locks to lie down: the next fork waits for that
    too, and one that no call went before does not.

    When the interpreter ends, Python ends a daemon thread where it next asks for its lock: in the middle of the frames
    of an engine, in C++, or of a tokenizer, in Rust, which cannot be unwound so and end the process by a signal
    (pybind/pybind11#2215). So calls in flight end first, and none begins but on the main thread.
    """

    def __init__(self) -> None:
        # Of a lock that its own thread may take again: a signal's handler may fork.
        self._changed = Condition()
        self._inside: set[int] = set()
        self._forks = 0
        self._called = False
        self._has_ended = False

    def __enter__(self) -> None:
        with self._changed:
            while self._forks or self._is_over():
                self._changed.wait(_LONGEST_WAIT)
            self._inside.add(get_ident())
            self._called = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._changed:
            self._inside.discard(get_ident())
            if self._forks or self._has_ended:
                self._changed.notify_all()

    def at_end(self) -> None:
        """Waits for the calls in flight; those that other threads still begin wait for ever."""
        with self._changed:
            self._has_ended = True
            self._changed.wait_for(lambda: not self._inside - {get_ident()}, _LONGEST_WAIT)

    def _is_over(self) -> bool:
        return self._has_ended and threading.current_thread() is not threading.main_thread()

    def before_fork(self) -> None:
        with self._changed:
            self._forks += 1
            self._changed.wait_for(lambda: not self._inside - {get_ident()}, _LONGEST_WAIT)
            called, self._called = self._called, False
        until = time.monotonic() + _LONGEST_UNREST
        while called and _pools_run() and time.monotonic() < until:
            time.sleep(0.001)

    def after_fork(self) -> None:
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()

    def in_child(self) -> None:
        # Whoever held the lock is not here.
        self.__init__()  # type: ignore[misc] # as new, for those who have imported it


def _pools_run() -> bool:
    """Whether a thread that is not Python's is on a CPU or waits for one; where a system does not tell, no."""
    ours = {str(thread.native_id) for thread in threading.enumerate()}
    with contextlib.suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):  # it may have ended
                if task.name not in ours and _state(task) == "R":
                    return True
    return False


def _state(task: Path) -> str:
    """Of a thread, one letter; its name, which stands before in brackets, may hold anything."""
    return (task / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]


class _Process:
    """What is true of this process.

    Attributes:
        forks: how many lie between the first process and this one.
    """

    forks = 0


engine_call = _Gate()
process = _Process()


def keep_forever(thing: object) -> None:
    """Never frees it, not at the interpreter's exit either: to free an engine is to wait for its threads."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _in_child() -> None:
    process.forks += 1
    engine_call.in_child()


# Threads that are no daemons are waited for before this is called.
atexit.register(engine_call.at_end)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=engine_call.before_fork, after_in_parent=engine_call.after_fork, after_in_child=_in_child
    )
