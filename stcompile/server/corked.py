"""A connection whose writes of one moment are sent as one."""

from __future__ import annotations

import asyncio
from typing import Any


class Corked:
    """A transport that sends the head and the body of an answer together.

    uvicorn writes them one after the other, and each write is a system call: an eighth of the loop's time with
    short texts. All else is the transport's own.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._waiting: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Sends it before the loop waits for anything, with what else was written until then."""
        if not self._waiting:
            self._loop.call_soon(self._send)
        self._waiting.append(data)

    def close(self) -> None:
        """Sends what waits and closes."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting and not self._transport.is_closing():
            self._transport.write(b"".join(waiting))


def corked(protocol: type[asyncio.Protocol]) -> type[asyncio.Protocol]:
    """The same protocol of HTTP, whose connections are corked."""

    class OnCorked(protocol):  # type: ignore[valid-type, misc] # whichever uvicorn has
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(Corked(transport))

    return OnCorked
