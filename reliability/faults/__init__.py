"""Faults at random moments, of the commands and calls that users run on a real model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reliability.faults import exports, running, serving


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        about: what is done, and what is right.
        inject: is given a model folder, what that compiles to as onnx-int8 (never written to), an empty folder, and how
            often. Raises AssertionError where something was lost, half-written or wrong, and
            `Skipped` where this machine cannot do it. Returns what happened, counted.
        times: how often by default.
    """

    about: str
    inject: Callable[[Path, Path, Path, int], dict[str, int]]
    times: int


FAULTS: dict[str, Fault] = {
    "kill": Fault(
        "`kill -9` during `stcompile export` over an older artifact: the folder then holds the old or the new one, "
        "whole, and the next export finds nothing in its way",
        exports.killed,
        20,
    ),
    "interrupt": Fault(
        "Ctrl-C during the same: exit code 130, the old artifact as it was, no other file left", exports.interrupted, 10
    ),
    "full-disk": Fault(
        "an export onto disks that are full after 1 to 60 MB: one sentence, exit code 2, nothing left",
        exports.onto_full_disks,
        8,
    ),
    "read-only": Fault(
        "an export onto a disk that is mounted read-only: one sentence, exit code 2", exports.onto_a_read_only_disk, 2
    ),
    "two-exports": Fault(
        "two exports into one folder at once: one publishes, the other says that it is at work",
        exports.two_into_one_folder,
        4,
    ),
    "removed": Fault(
        "a file, or all, removed under a running encoder: it goes on with the same vectors; what opens the folder "
        "anew is refused in one sentence",
        running.files_removed,
        20,
    ),
    "fork": Fault(
        "a fork while other threads encode: the child has the same vectors, and ends", running.forked_while_busy, 50
    ),
    "threads": Fault(
        "32 threads on one encoder: every vector is that of its text alone, but for float32's rounding",
        running.many_threads,
        40_000,
    ),
    "exit": Fault(
        "the interpreter ends while threads and an `AsyncEncoder` are at work: it ends within 10 s, without a signal",
        running.ended_while_busy,
        20,
    ),
    "serve-slow": Fault(
        "clients of a server send half a request and stay: all others are answered", serving.slow_clients, 200
    ),
    "serve-large": Fault(
        "50 MB sent to a server, with a length and without: 413, and no memory is kept", serving.large_bodies, 10
    ),
    "serve-json": Fault(
        "cut, changed and random bytes for every path: an answer or one sentence", serving.bad_json, 2_000
    ),
    "serve-keys": Fault("no key, parts of it and others: 401, and no log has a key", serving.wrong_keys, 300),
    "serve-left": Fault(
        "clients killed in the middle of 1,500 texts: what no run took is given up, others are answered",
        serving.clients_killed,
        20,
    ),
    "serve-term": Fault(
        "SIGTERM while 32 clients ask a server: every answer that was given arrived whole, exit code 0",
        serving.ended_under_load,
        10,
    ),
    "serve-removed": Fault(
        "the artifact removed under a server: it goes on with the same vectors", serving.artifact_removed, 5
    ),
}
