"""Does a server of forked workers answer everybody, and does it end?

gunicorn with `--preload`, so that the artifact is loaded and has encoded before the workers are forked, and uvicorn's
workers with one `AsyncEncoder` each. So many connections send one text after the other; every vector is compared with
the one this process computes; then gunicorn gets SIGTERM. A single number that is not as it should be is exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import at_least_one, machine_facts, parser, print_table, run, some_texts, status, write_json
from benchmarks._speeds import latency
from stcompile.runtime.encoder import Encoder

# Float32 rounding in batches of other sizes; unit vectors.
MAX_ABS_ERROR = 1e-5

_SECONDS_TO_END = 60

GUNICORN, UVICORN = SERVERS = ("gunicorn", "uvicorn")

# Then a caller comes anew, and perhaps to another worker.
_REQUESTS_A_CONNECTION = 20


@dataclass
class Answers:
    """What came back.

    Attributes:
        answered: requests with status 200.
        failed: all others.
        wrong: answered with another vector than this process computes.
        processes: of the workers that answered.
        waited: seconds of each answered request.
        exit_code: gunicorn's, after SIGTERM; None where it did not end.
        complaints: lines of its log above INFO.
    """

    answered: int = 0
    failed: int = 0
    wrong: int = 0
    processes: set[str] = field(default_factory=set)
    waited: list[float] = field(default_factory=list)
    exit_code: int | None = None
    complaints: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.failed or self.wrong or self.exit_code or self.complaints) and self.exit_code is not None


def serve(
    artifact: Path, texts: list[str], requests: int, *, server: str = GUNICORN, workers: int, callers: int
) -> Answers:
    """Starts a server on 127.0.0.1, asks it, and ends it.

    Args:
        artifact: what it serves.
        texts: are sent again from the first when there are no more.
        requests: how many.
        server: one of `SERVERS`; gunicorn forks workers that have loaded it, uvicorn starts others that load it.
        workers: processes.
        callers: connections.
    """
    with Encoder.load(artifact, threads=1) as encoder:
        expected = encoder.encode(texts)
    answers = Answers()
    root = str(Path(__file__).parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "ARTIFACT": str(artifact.absolute()), "PYTHONPATH": os.pathsep.join(paths)}
    with tempfile.TemporaryFile("w+") as log, socket.create_server(("127.0.0.1", 0), backlog=callers) as door:
        # Bound here: callers need to wait for nothing but their answers.
        number = door.fileno()
        options = {
            GUNICORN: ["--preload", "--worker-class=uvicorn_worker.UvicornWorker", f"--bind=fd://{number}"],
            UVICORN: ["--log-level=warning", f"--fd={number}"],
        }
        command = [sys.executable, "-m", server, "benchmarks._asgi:app", f"--workers={workers}", *options[server]]
        running = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log, pass_fds=[number])
        try:
            numbers = iter(range(requests))
            port = door.getsockname()[1]
            asyncio.run(_ask_all(port, numbers, texts, expected, answers, callers))
            running.send_signal(signal.SIGTERM)
            answers.exit_code = running.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            answers.complaints.append(f"the server did not end within {_SECONDS_TO_END} s")
        finally:
            running.kill()
            running.wait()
        log.seek(0)
        answers.complaints += [line.rstrip() for line in log if line.strip() and "[INFO]" not in line]
    return answers


async def _ask_all(
    port: int, numbers: Iterator[int], texts: list[str], expected: Any, answers: Answers, callers: int
) -> None:
    await asyncio.gather(*(_ask(port, numbers, texts, expected, answers) for _ in range(callers)))


async def _ask(port: int, numbers: Iterator[int], texts: list[str], expected: Any, answers: Answers) -> None:
    """One caller, one request at a time."""
    reader = writer = None
    for turn, number in enumerate(numbers):
        if writer is not None and turn % _REQUESTS_A_CONNECTION == 0:
            writer.close()
            writer = None
        place = number % len(texts)
        started = time.perf_counter()
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert reader is not None
            body = texts[place].encode()
            writer.write(b"POST / HTTP/1.1\r\nHost: server\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            found = await reader.readexactly(int(fields["content-length"]))
        except (OSError, asyncio.IncompleteReadError):
            answers.failed += 1
            writer = None
            continue
        if " 200 " not in head.partition("\r\n")[0] + " ":
            answers.failed += 1
            continue
        answers.answered += 1
        answers.waited.append(time.perf_counter() - started)
        answers.processes.add(fields["x-process"])
        error = np.abs(np.frombuffer(found, np.float32) - expected[place]).max()
        answers.wrong += int(not error <= MAX_ABS_ERROR)
    if writer is not None:
        writer.close()


def main() -> int:
    arguments = _arguments()
    texts = some_texts(arguments.texts, arguments.limit)
    rows: list[dict[str, Any]] = []
    for artifact in arguments.artifact:
        status(f"Sending {arguments.requests} requests to {artifact.name}")
        started = time.perf_counter()
        found = serve(
            artifact,
            texts,
            arguments.requests,
            server=arguments.server,
            workers=arguments.workers,
            callers=arguments.callers,
        )
        seconds = time.perf_counter() - started
        told = asdict(found) | {"processes": len(found.processes), "is_clean": found.is_clean}
        del told["waited"]
        rows.append({"artifact": artifact.name, **told, "seconds": round(seconds, 1), **latency(found.waited)})
    settings = {
        "server": arguments.server,
        "requests": arguments.requests,
        "workers": arguments.workers,
        "callers": arguments.callers,
        "texts": arguments.texts.name,
    }
    print_table(
        f"{arguments.server}: {arguments.workers} workers, {arguments.callers} callers",
        ("artifact", "answered", "failed", "wrong", "exit code", "p50 ms", "p99 ms"),
        [
            (
                row["artifact"],
                str(row["answered"]),
                str(row["failed"]),
                str(row["wrong"]),
                str(row["exit_code"]),
                f"{row['p50_ms']:.1f}",
                f"{row['p99_ms']:.1f}",
            )
            for row in rows
        ],
    )
    write_json(arguments.json, "server", machine_facts(), settings, rows)
    return 0 if all(row["is_clean"] for row in rows) else 1


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, "python -m benchmarks.server --artifact DIR --texts short.jsonl --json result.json")
    made.add_argument(
        "--artifact", type=Path, required=True, action="append", metavar="DIR", help="what to serve; may be repeated"
    )
    made.add_argument("--texts", type=Path, required=True, metavar="FILE", help="one a line, or .jsonl, field text")
    made.add_argument("--limit", type=at_least_one, default=1000, help="take the first N texts (default: 1000)")
    made.add_argument("--requests", type=at_least_one, default=10_000, help="requests (default: 10000)")
    made.add_argument("--server", choices=SERVERS, default=GUNICORN, help=f"(default: {GUNICORN})")
    made.add_argument("--workers", type=at_least_one, default=4, help="processes of the server (default: 4)")
    made.add_argument("--callers", type=at_least_one, default=64, help="concurrent connections (default: 64)")
    return made.parse_args()


if __name__ == "__main__":
    run(main)
