"""Keys, limits, origins, logs: who may ask, how much, and what is kept of it."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import socket
import threading
import time
from typing import Any

import pytest
from pydantic import ValidationError

from stcompile.errors import InputError
from stcompile.server import logs
from stcompile.server.errors import RequestError
from stcompile.server.settings import KEY_VARIABLE, Settings, api_keys
from tests.server.conftest import running


class Held:
    """An encoder whose runs wait until they may go on."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self.may_run = threading.Event()
        self.ran: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def single_threaded(self) -> Held:
        return self

    def encode(self, texts: list[str], **options: Any) -> Any:
        assert self.may_run.wait(60)
        self.ran += texts
        return self._encoder.encode(texts, **options)


def test_a_key_must_come_with_it(loaded: dict[str, Any]) -> None:
    with running({"embedder": loaded["embedder"]}, Settings(api_keys=("first", "second"), logs=False)) as server:
        body = {"input": "a"}
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "first"},
            {"authorization": "Bearer "},
        ):
            refused = server.ask("/v1/embeddings", body, headers=headers)
            assert refused.status == 401
            assert "API key is missing or wrong" in refused.json["error"]["message"]
        for key in ("first", "second"):
            assert server.ask("/v1/embeddings", body, headers={"authorization": f"Bearer {key}"}).status == 200
        assert server.ask("/health").status == 200
        assert server.ask("/").status == 200
        for path in ("/metrics", "/info", "/v1/models", "/openapi.json"):
            assert server.ask(path).status == 401


def test_keys_come_from_a_file_and_the_environment(tmp_path: Any) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\none\n\ntwo\none\n", "utf-8")
    assert api_keys(str(file), {KEY_VARIABLE: "three"}) == ("three", "one", "two")
    assert api_keys(None, {}) == ()
    file.write_text("\n", "utf-8")
    with pytest.raises(InputError, match="has no API key"):
        api_keys(str(file), {})
    with pytest.raises(InputError, match="cannot be read"):
        api_keys(str(tmp_path / "nothing"), {})
    file.write_text("first\r\n# not one\r\nsecond", "utf-8-sig")
    assert api_keys(str(file), {}) == ("first", "second")
    for empty in ("", " \n"):
        with pytest.raises(InputError, match="STCOMPILE_API_KEY is empty"):
            api_keys(None, {KEY_VARIABLE: empty})
    with pytest.raises(InputError, match="no header can carry"):
        api_keys(None, {KEY_VARIABLE: "k\N{LATIN SMALL LETTER E WITH ACUTE}y"})


def test_too_many_bytes_are_refused_before_they_are_read(loaded: dict[str, Any]) -> None:
    with running({"embedder": loaded["embedder"]}, Settings(max_body=1000, logs=False)) as server:
        assert server.ask("/embed", {"inputs": "a" * 900}).status == 200
        assert server.ask("/embed", {"inputs": "a" * 1000}).status == 413
        # Nobody says how many come.
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as line:
            line.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            line.sendall(b"400\r\n" + b"a" * 0x400 + b"\r\n")
            assert b" 413 " in line.recv(4096)


def test_what_was_refused_is_forgotten_at_once(loaded: dict[str, Any]) -> None:
    """Not when the collector of circles next comes by: bodies are megabytes."""
    with running({"embedder": loaded["embedder"]}, Settings(max_body=1000, logs=False)) as server:
        gc.collect()
        gc.disable()
        try:
            for body in ({"inputs": "a" * 1000}, {"inputs": "a", "model": "no"}, {"inputs": 3}, b"{"):
                server.ask("/v1/embeddings", body)
                server.ask("/embed", body)
            kept = [one for one in gc.get_objects() if isinstance(one, (RequestError, ValidationError))]
        finally:
            gc.enable()
    assert kept == []


def test_half_a_request_is_not_waited_for(loaded: dict[str, Any]) -> None:
    with (
        running({"embedder": loaded["embedder"]}, Settings(body_seconds=0.3, logs=False)) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as line,
    ):
        line.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert b" 408 " in line.recv(4096)
        assert server.ask("/embed", {"inputs": "a"}).status == 200


def test_who_comes_to_a_full_queue_is_told_to_come_again(loaded: dict[str, Any]) -> None:
    held = Held(loaded["embedder"])
    with running({"embedder": held}, Settings(max_queue=4, logs=False)) as server:
        first = threading.Thread(target=server.ask, args=("/embed", {"inputs": ["a", "b", "c"]}))
        first.start()
        _until(lambda: b'stcompile_texts_waiting{model="embedder"} 3.0' in server.ask("/metrics").body)
        refused = server.ask("/embed", {"inputs": ["d", "e"]})
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert "3 texts wait already and 4 is the limit" in refused.json["error"]
        held.may_run.set()
        first.join(60)
        assert server.ask("/embed", {"inputs": ["d", "e"]}).status == 200


def test_who_leaves_gives_up_what_waits(loaded: dict[str, Any]) -> None:
    held = Held(loaded["embedder"])
    with running({"embedder": held}, Settings(logs=False)) as server:
        first = threading.Thread(target=server.ask, args=("/embed", {"inputs": "taken"}))
        first.start()
        time.sleep(0.2)
        body = json.dumps({"inputs": ["left alone"] * 3}).encode()
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as line:
            line.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            _until(lambda: b'stcompile_texts_waiting{model="embedder"} 4.0' in server.ask("/metrics").body)
        _until(lambda: b'stcompile_texts_waiting{model="embedder"} 1.0' in server.ask("/metrics").body)
        held.may_run.set()
        first.join(60)
        assert held.ran == ["taken"]


def test_pages_of_an_origin_may_call(loaded: dict[str, Any]) -> None:
    settings = Settings(cors=("https://example.org",), api_keys=("key",), logs=False)
    with running({"embedder": loaded["embedder"]}, settings) as server:
        asks = {"origin": "https://example.org", "access-control-request-method": "POST"}
        asks["access-control-request-headers"] = "authorization,content-type"
        before = server.ask("/v1/embeddings", headers=asks, method="OPTIONS")
        assert (before.status, before.headers["access-control-allow-origin"]) == (200, "https://example.org")
        # OpenAI's own client in a browser.
        more = {**asks, "access-control-request-headers": "authorization,content-type,x-stainless-os"}
        assert server.ask("/v1/embeddings", headers=more, method="OPTIONS").status == 200
        # Who was not let in is told so where the page can read it.
        refused = server.ask("/v1/embeddings", {"input": "a"}, headers={"origin": "https://example.org"})
        assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, "https://example.org")
        assert refused.headers["access-control-expose-headers"].lower() == "retry-after"
        other = server.ask("/v1/embeddings", headers={**asks, "origin": "https://example.com"}, method="OPTIONS")
        assert "access-control-allow-origin" not in other.headers


def test_a_line_for_each_request_and_no_text_in_it(loaded: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "stcompile.server"), running({"embedder": loaded["embedder"]}) as server:
        server.ask("/embed", {"inputs": ["a secret", "another secret"]})
        server.ask("/embed", {"inputs": "a secret", "prompt_name": "no"})
        lines = [json.loads(logs.AsJson().format(record)) for record in caplog.records]
    (done, refused) = (line for line in lines if line["event"] == "request")
    assert (done["path"], done["status"], done["model"], done["texts"]) == ("/embed", 200, "embedder", 2)
    assert done["tokens"] > 4
    assert done["ms"] > 0
    assert refused["status"] == 422
    assert "secret" not in json.dumps(lines)


def test_a_failure_is_logged_without_its_words(loaded: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Held):
        def encode(self, texts: list[str], **options: Any) -> Any:
            raise RuntimeError(f"cannot encode {texts}")

    with caplog.at_level(logging.INFO, "stcompile.server"):
        with running({"embedder": Broken(loaded["embedder"])}) as server:
            answer = server.ask("/embed", {"inputs": ["a secret"]})
        said = [logs.AsJson().format(record) for record in caplog.records]
    assert answer.status == 500
    assert answer.json["error"] == "unexpected RuntimeError: this is a bug of the server"
    failed = next(json.loads(line) for line in said if '"failed"' in line)
    assert failed["error"] == "RuntimeError"
    assert "secret" not in "".join(said)


def test_lines_of_one_moment_are_written_at_once_and_warnings_now() -> None:
    written: list[str] = []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    handler = logs.Together(Stream())
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.Logger("server", logging.INFO)
    log.addHandler(handler)

    async def say() -> None:
        log.info("one")
        log.info("two")
        await asyncio.sleep(0)
        assert not written
        await asyncio.sleep(0.2)
        assert written == ["one\ntwo\n"]
        log.info("three")
        log.warning("four")
        assert written[1:] == ["three\nfour\n"]
        log.info("five")

    asyncio.run(say())
    log.info("six")  # where no loop runs
    assert written[2:] == ["five\nsix\n"]
    log.info("seven")
    assert written[3:] == ["seven\n"]


@pytest.mark.parametrize("options", [{"max_queue": 0}, {"max_texts": -1}, {"body_seconds": 0}, {"max_body": 0}])
def test_settings_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        Settings(**options)


def _until(true: Any) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)
