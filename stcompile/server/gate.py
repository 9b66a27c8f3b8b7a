"""What every request passes: its key is looked at, and what became of it is counted and logged."""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from stcompile.server import logs
from stcompile.server.endpoint import Known
from stcompile.server.metrics import Metrics
from stcompile.server.settings import Settings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Where the handler of a request tells what there is to tell of it.
KNOWN = "stcompile.known"

# Without a key: who watches over the server has none, and the page asks its reader for one.
_OPEN = frozenset(("/health", "/playground.js", "/favicon.ico"))

_UNAUTHORIZED = orjson.dumps(
    {
        "error": {
            "message": "the API key is missing or wrong: send it as Authorization: Bearer KEY",
            "type": "authentication_error",
            "param": None,
            "code": "invalid_api_key",
        },
        "error_type": "unauthorized",
        "message": "the API key is missing or wrong",
    }
)


class Gate:
    """An ASGI application around another.

    Args:
        app: that answers.
        settings: the server's.
        metrics: what is counted.
    """

    def __init__(self, app: App, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._keys = tuple(key.encode("ascii") for key in settings.api_keys)
        self._logs = settings.logs
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        known = scope[KNOWN] = Known()
        status = 499  # nobody was there any more to be answered

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self._may_enter(scope):
                await self._app(scope, receive, sending)
            else:
                await _refuse(sending)
        finally:
            seconds = time.perf_counter() - begun
            path = scope["path"]
            self._metrics.note(path, status, seconds, known.model, known.texts, known.usage.tokens)
            if self._logs:
                logs.event(
                    "request",
                    method=scope["method"],
                    path=path[:200],
                    status=status,
                    ms=round(1000 * seconds, 2),
                    model=known.model,
                    texts=known.texts,
                    tokens=known.usage.tokens,
                )

    def _may_enter(self, scope: Scope) -> bool:
        if not self._keys or scope["path"] in _OPEN or (scope["path"] == "/" and scope["method"] in ("GET", "HEAD")):
            return True
        given = b""
        for name, value in scope["headers"]:
            if name == b"authorization" and value[:7].lower() == b"bearer ":
                given = value[7:].strip()
        # All are compared, so that time tells nothing of which one it was.
        return sum(hmac.compare_digest(given, key) for key in self._keys) > 0


async def _refuse(send: Send) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(_UNAUTHORIZED)),
        (b"www-authenticate", b"Bearer"),
    ]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": _UNAUTHORIZED})
