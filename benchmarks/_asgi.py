"""The smallest server: the body of a request is a text, that of the answer its float32 vector.

`ARTIFACT` in the environment names the artifact. With gunicorn's `--preload` it is loaded and warmed up before the
workers are forked.
"""

from __future__ import annotations

import os
from typing import Any

import stcompile

_encoder = stcompile.load(os.environ["ARTIFACT"])
_encoder.encode("a text before the fork")
_shared = stcompile.AsyncEncoder(_encoder)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    text, more = b"", True
    while more:
        message = await receive()
        text, more = text + message.get("body", b""), message.get("more_body", False)
    vector = await _shared.encode(text.decode())
    headers = [(b"content-length", b"%d" % vector.nbytes), (b"x-process", b"%d" % os.getpid())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": vector.tobytes()})


async def _lifespan(receive: Any, send: Any) -> None:
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await _shared.aclose()
    await send({"type": "lifespan.shutdown.complete"})
