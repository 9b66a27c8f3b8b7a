#!/usr/bin/env bash
# uvicorn, httptools: a request that offers HTTP/2 loses its body.
#
# Seen:      2026-12-01, uvicorn 0.54.0, httptools 0.9.0
# Input:     a POST with a body of 3 bytes, without and with the offer that Java's HttpClient makes on every new connection
#            (Connection: Upgrade, Upgrade: h2c).
# Expected:  3 bytes both times: a server may pass an offer over (RFC 9110, 7.8).
# Observed:  0 bytes with the offer.
# stcompile: `stcompile serve` reads such a head once more, without the offer.
# Output:
#   uvicorn 0.54.0, httptools 0.9.0
#   without the offer: 3 bytes
#   with the offer: 0 bytes
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet uvicorn==0.54.0 httptools==0.9.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import socket
import sys
import threading
import time
from importlib.metadata import version

import uvicorn

seen = []


async def app(scope, receive, send):
    seen.append(len((await receive())["body"]))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


listening = socket.create_server(("127.0.0.1", 0))
server = uvicorn.Server(uvicorn.Config(app, lifespan="off", http="httptools", log_level="critical"))
thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
thread.start()
while not server.started:
    time.sleep(0.01)
for offer in (b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"):
    with socket.create_connection(listening.getsockname(), timeout=10) as line:
        line.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n" + offer + b"Content-Length: 3\r\n\r\nabc")
        line.recv(1000)
server.should_exit = True
thread.join()
print(f"uvicorn {version('uvicorn')}, httptools {version('httptools')}")
print(f"without the offer: {seen[0]} bytes")
print(f"with the offer: {seen[1]} bytes")
sys.exit(0 if seen == [3, 0] else "CHANGED: not as described in this script")
PYTHON
