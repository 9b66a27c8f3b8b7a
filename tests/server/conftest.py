"""Servers of golden artifacts on this machine, and what asks them."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

import stcompile
from stcompile.server.app import create_app
from stcompile.server.corked import corked
from stcompile.server.run import bound
from stcompile.server.settings import Settings
from stcompile.server.upgrades import in_one_protocol
from tests.conftest import Compiled

# One of each kind, by the names that clients use.
CASES = {
    "embedder": "postprocessing",
    "routed": "router_no_default",
    "reranker": "reranker_bert",
    "sparse": "sparse_splade",
    "tokens": "multi_vector_bert",
}


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Address:
    """A server that runs."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, method: str | None = None
    ) -> Answer:
        """One request; a body that is no bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(
                method or ("GET" if body is None else "POST"),
                path,
                content,
                {"content-type": "application/json", **(headers or {})},
            )
            found = connection.getresponse()
            return Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())
        finally:
            connection.close()


@contextmanager
def running(loaded: Mapping[str, Any], settings: Settings | None = None) -> Iterator[Address]:
    """A server in a thread of this process, until the end."""
    listening = bound("127.0.0.1", 0)
    config = uvicorn.Config(create_app(loaded, settings), log_config=None, access_log=False, lifespan="on")
    config.load()
    config.http_protocol_class = in_one_protocol(corked(config.http_protocol_class))
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not server.started and time.monotonic() < until:
        time.sleep(0.005)
    try:
        yield Address(listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def loaded(compiled: Compiled) -> dict[str, Any]:
    return {name: stcompile.load(compiled(case), threads=1) for name, case in CASES.items()}


@pytest.fixture(scope="session")
def server(loaded: dict[str, Any]) -> Iterator[Address]:
    with running(loaded, Settings(logs=False)) as address:
        yield address


@pytest.fixture(scope="session")
def artifacts(compiled: Compiled) -> dict[str, Path]:
    return {name: compiled(case) for name, case in CASES.items()}
