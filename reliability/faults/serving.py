"""Faults of a server at work: clients that are slow, wrong or gone, an artifact that goes, and its end under load."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import stcompile

_TEXTS = ["hello world", "the quick brown fox jumps over the lazy dog", "a longer text " * 20]

# Of vectors of length 1 in float32, in batches of other sizes.
_ROUNDING = 1e-5
_SECONDS_TO_START, _SECONDS_TO_END = 60, 60

# A body that is far above what a request may have, and what reading all of it would add to the process.
_LARGE, _LEAST_GROWTH_MB = 50 << 20, 24

_CLIENT = """
import http.client, json, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
texts = ["a text of some words, number %d" % index for index in range(1500)]
print("sending", flush=True)
connection.request("POST", "/embed", json.dumps({"inputs": texts}), {"content-type": "application/json"})
connection.getresponse().read()
"""


@dataclass
class _Server:
    """`stcompile serve` as a process."""

    process: subprocess.Popen[str]
    port: int
    lines: list[str] = field(default_factory=list)

    def ask(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            connection.request("POST", path, content, {"content-type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def waiting(self) -> float:
        """Texts that wait or run, as the server tells."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/metrics")
        found = re.search(rb"stcompile_texts_waiting\{.*\} (\S+)", connection.getresponse().read())
        connection.close()
        assert found is not None
        return float(found[1])

    @property
    def megabytes(self) -> int:
        """Of memory that it has now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) >> 10  # type: ignore[index] # Linux tells it of every process

    def end(self) -> int:
        """Its exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_SECONDS_TO_END)


@contextlib.contextmanager
def _serving(artifact: Path, *options: str, environment: Mapping[str, str] | None = None) -> Iterator[_Server]:
    command = [sys.executable, "-m", "stcompile", "serve", f"minilm={artifact}", "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})
    server = _Server(process, 0)
    ready = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("listening on "):
                server.port = int(line.rsplit(":", 1)[1])
            server.lines.append(line)
            if '"listening"' in line:
                ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert ready.wait(_SECONDS_TO_START), f"it did not start: {server.lines}"
        time.sleep(0.3)
        yield server
        if process.poll() is None:
            code = server.end()
            assert code == 0, f"it ended with {code}: {server.lines[-5:]}"
        reader.join(_SECONDS_TO_END)
    finally:
        process.kill()
        process.wait()


def _is_right(body: bytes, expected: Any) -> bool:
    return bool(np.abs(np.array(json.loads(body)[0]) - expected).max() < _ROUNDING)


def slow_clients(model: Path, artifact: Path, home: Path, times: int) -> dict[str, int]:
    """So many clients send half a request and stay; others are answered meanwhile."""
    expected = [stcompile.load(artifact).encode(text) for text in _TEXTS]
    with _serving(artifact) as server, contextlib.ExitStack() as lines:
        for _ in range(times):
            line = lines.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            line.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        answered = 0
        for _ in range(50):
            for text, vector in zip(_TEXTS, expected, strict=True):
                status, body = server.ask("/embed", {"inputs": text})
                assert status == 200
                assert _is_right(body, vector)
                answered += 1
    return {"half requests": times, "answered beside them": answered}


def large_bodies(model: Path, artifact: Path, home: Path, times: int) -> dict[str, int]:
    """Sends 50 MB at once, and in pieces without a length."""
    found: Counter[str] = Counter()
    with _serving(artifact) as server:
        server.ask("/embed", {"inputs": _TEXTS})
        before = server.megabytes
        for index in range(times):
            with socket.create_connection(("127.0.0.1", server.port), timeout=60) as line:
                chunked = bool(index % 2)
                kind = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % _LARGE
                line.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\n" + kind + b"\r\n\r\n")
                piece = b"a" * (1 << 16)
                with contextlib.suppress(OSError):  # it need not listen to the end
                    for _ in range(_LARGE >> 16):
                        line.sendall(b"10000\r\n" + piece + b"\r\n" if chunked else piece)
                with contextlib.suppress(OSError):
                    found[f"status {line.recv(64).split()[1].decode()}"] += 1
        growth = server.megabytes - before
        assert growth < _LEAST_GROWTH_MB, f"it keeps {growth} MB"
        assert server.ask("/embed", {"inputs": "a"})[0] == 200
    assert set(found) <= {"status 413"}, found
    return dict(found)


def bad_json(model: Path, artifact: Path, home: Path, times: int) -> dict[str, int]:
    """Sends bytes that are no request: cut, changed or random ones."""
    chance = random.Random(5)
    whole = json.dumps({"input": _TEXTS, "model": "minilm"}).encode()
    found: Counter[str] = Counter()
    with _serving(artifact, "--no-log-requests") as server:
        for _ in range(times):
            body = bytearray(chance.choice([whole[: chance.randrange(1, len(whole))], chance.randbytes(64), whole]))
            for _ in range(chance.randrange(3)):
                body[chance.randrange(len(body))] = chance.randrange(256)
            path = chance.choice(["/v1/embeddings", "/embed", "/", "/rerank", "/v1/rerank", "/tokenize"])
            status, answer = server.ask(path, bytes(body))
            assert status in (200, 404, 413, 422, 424), (status, bytes(body))
            assert b"Traceback" not in answer
            found["answered" if status == 200 else "refused"] += 1
        assert server.ask("/embed", {"inputs": "a"})[0] == 200
    return dict(found)


def wrong_keys(model: Path, artifact: Path, home: Path, times: int) -> dict[str, int]:
    """Asks without a key, with parts of it, and with others."""
    chance = random.Random(7)
    key = "0123456789abcdef"
    found: Counter[str] = Counter()
    with _serving(artifact, environment={"STCOMPILE_API_KEY": key}) as server:
        for _ in range(times):
            wrong = chance.choice(["", key[:-1], key + "0", key.upper(), chance.randbytes(8).hex(), "Bearer " + key])
            headers = {"authorization": f"Bearer {wrong}"} if wrong else {}
            status, _ = server.ask("/embed", {"inputs": "a"}, headers)
            found[f"status {status}"] += 1
        assert server.ask("/embed", {"inputs": "a"}, {"authorization": f"Bearer {key}"})[0] == 200
        assert not any(key in line for line in server.lines)
    assert set(found) == {"status 401"}, found
    return dict(found)


def clients_killed(model: Path, artifact: Path, home: Path, times: int) -> dict[str, int]:
    """Kills a client in the middle of 1,500 texts: what no run took is given up, and others are answered."""
    expected = stcompile.load(artifact).encode(_TEXTS[0])
    chance = random.Random(11)
    with _serving(artifact, "--no-log-requests") as server:
        for _ in range(times):
            client = subprocess.Popen(
                [sys.executable, "-c", _CLIENT, str(server.port)], stdout=subprocess.PIPE, text=True
            )
            assert client.stdout is not None
            client.stdout.readline()
            time.sleep(chance.uniform(0.05, 0.6))
            client.kill()
            client.communicate()
            status, body = server.ask("/embed", {"inputs": _TEXTS[0]})
            assert status == 200
            assert _is_right(body, expected)
            until = time.monotonic() + 10
            while server.waiting():
                assert time.monotonic() < until, "texts of a client that is gone still wait"
                time.sleep(0.02)
    return {"clients killed": times}


def ended_under_load(model: Path, artifact: Path, home: Path, times: int) -> dict[str, int]:
    """SIGTERM while 32 clients ask: what the server answered arrived, and it ends with 0."""
    expected = [stcompile.load(artifact).encode(text) for text in _TEXTS]
    found: Counter[str] = Counter()
    chance = random.Random(13)
    for _ in range(times):
        told: Counter[str] = Counter()
        stop = threading.Event()
        with _serving(artifact) as server:

            def ask(seed: int, server: _Server = server, told: Counter[str] = told, stop: Any = stop) -> None:
                here = random.Random(seed)
                while not stop.is_set():
                    place = here.randrange(len(_TEXTS))
                    try:
                        status, body = server.ask("/embed", {"inputs": _TEXTS[place]})
                    except (OSError, http.client.HTTPException):
                        told["not taken"] += 1
                        time.sleep(0.05)
                        continue
                    told["answered" if status == 200 and _is_right(body, expected[place]) else f"wrong {status}"] += 1

            clients = [threading.Thread(target=ask, args=(seed,)) for seed in range(32)]
            for client in clients:
                client.start()
            time.sleep(chance.uniform(0.3, 1.5))
            code = server.end()
            stop.set()
            for client in clients:
                client.join()
        done = sum('"event": "request"' in line and '"status": 200' in line for line in server.lines)
        assert code == 0
        assert told["answered"] == done, f"{done} were answered, and {dict(told)} arrived"
        assert not [what for what in told if what.startswith("wrong")], told
        found["answered"] += told["answered"]
        found["came too late"] += told["not taken"] > 0
    return {"requests answered": found["answered"], "ends with 0": times}


def artifact_removed(model: Path, artifact: Path, home: Path, times: int) -> dict[str, int]:
    """Removes the artifact under a server."""
    expected = stcompile.load(artifact).encode(_TEXTS[1])
    for index in range(times):
        folder = Path(shutil.copytree(artifact, home / f"served-{index}"))
        with _serving(folder) as server:
            server.ask("/embed", {"inputs": _TEXTS[0]})
            shutil.rmtree(folder)
            for _ in range(20):
                status, body = server.ask("/embed", {"inputs": _TEXTS[1]})
                assert status == 200
                assert _is_right(body, expected)
    return {"goes on": times}
