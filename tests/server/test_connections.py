"""What clients do with a connection: protocols that they offer, bodies in pieces, requests behind each other."""

from __future__ import annotations

import re
import socket

import pytest

from tests.server.conftest import Address

BODY = b'{"inputs": "a", "dimensions": 2}'
# As Java's HttpClient sends it.
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
SIZED = b"POST /embed HTTP/1.1\r\nHost: x\r\n" + OFFER + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = b"POST /embed HTTP/1.1\r\nHost: x\r\n" + OFFER + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKED += b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n"
PLAIN = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
WITHOUT = b"GET /health HTTP/1.1\r\nHost: x\r\n" + OFFER + b"\r\n"
LAST = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def statuses(server: Address, *parts: bytes) -> list[int]:
    """Of all answers to what is sent part by part, the last of which ends the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            line.sendall(part)
        found = b""
        while more := line.recv(65536):
            found += more
    return [int(one) for one in re.findall(rb"HTTP/1\.1 (\d+) ", found)]


@pytest.mark.parametrize("request_", [SIZED, CHUNKED, WITHOUT], ids=["sized", "chunked", "without a body"])
def test_who_offers_another_protocol_is_answered_in_this_one(server: Address, request_: bytes) -> None:
    assert statuses(server, request_, LAST) == [200, 200]
    assert statuses(server, *(request_[place : place + 1] for place in range(len(request_))), LAST) == [200, 200]
    head, _, body = request_.partition(b"\r\n\r\n")
    assert statuses(server, head + b"\r\n\r\n", body, LAST) == [200, 200]


def test_offers_stand_among_other_requests(server: Address) -> None:
    assert statuses(server, PLAIN + SIZED + WITHOUT + CHUNKED + PLAIN + LAST) == [200] * 6
    assert statuses(server, WITHOUT * 2000 + LAST) == [200] * 2001


def test_what_else_the_connection_says_stays(server: Address) -> None:
    assert statuses(server, SIZED.replace(b"Upgrade, HTTP2", b"Upgrade, close, HTTP2")) == [200]
    # What is no offer, and what cannot be read, is refused as before.
    assert statuses(server, b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n" + OFFER + b"\r\n") == [400]
    twice = SIZED.replace(b"Content-Length", b"Content-Length: 1\r\nContent-Length", 1)
    assert statuses(server, twice) == [400]
