"""A connection whose client offers another protocol, and is answered in this one."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_OFFERS = (b"upgrade", b"http2-settings")


def in_one_protocol(protocol: type[asyncio.Protocol]) -> type[asyncio.Protocol]:
    """The same protocol of HTTP, to which an `Upgrade` that it does not take is as if it had not been sent.

    Java's HttpClient offers HTTP/2 with every first request. A server may pass an offer over (RFC 9110, 7.8), and
    uvicorn does, but httptools has stopped at the head by then: the body is lost, and with it the request
    (Kludex/uvicorn#2722). Here such a head is read once more, without the offer.
    """
    if not issubclass(protocol, HttpToolsProtocol):
        return protocol

    class InOneProtocol(protocol):  # type: ignore[valid-type, misc] # as it is chosen
        _received: bytes | memoryview = b""
        _again = b""
        parser: Any

        def data_received(self, data: bytes | memoryview) -> None:
            self._received = data
            super().data_received(data)
            # One after the other: there may be thousands of heads in what is received at once.
            while self._again:
                head, self._again = self._again, b""
                super().data_received(head)
                if self._received:
                    super().data_received(self._received)

        def on_headers_complete(self) -> None:
            if not self._is_read_again():
                super().on_headers_complete()

        def on_message_complete(self) -> None:
            if not self._is_read_again():
                super().on_message_complete()

        def _is_read_again(self) -> bool:
            # CONNECT is no offer: there is nothing else that it could be.
            return bool(
                self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT" and not self._should_upgrade()
            )

        def _unsupported_upgrade_warning(self) -> None:
            # uvicorn asks for it where httptools says how much of the data it has read: the head, and all before it.
            stopped: Any = sys.exception()
            self._received = memoryview(self._received)[stopped.args[0] :]
            version = self.parser.get_http_version().encode()
            lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
            lines += [name + b": " + value for name, value in _without_offers(self.headers)]
            self._again = b"\r\n".join(lines) + b"\r\n\r\n"
            self.parser = httptools.HttpRequestParser(self)

    return InOneProtocol


def _without_offers(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The lines of a head, of which none offers another protocol; what else `Connection` says stays."""
    kept = []
    for name, value in headers:
        if name == b"connection":
            words = [word.strip() for word in value.split(b",")]
            stays = b", ".join(word for word in words if word and word.lower() not in _OFFERS)
            kept += [(name, stays)] if stays else []
        elif name not in _OFFERS:
            kept.append((name, value))
    return kept
