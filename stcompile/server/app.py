"""The server as an ASGI application: paths, bodies, errors, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from importlib import resources
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from stcompile.server import cohere, info, logs, openai, openapi, tei
from stcompile.server.endpoint import Endpoint, Known, Server, written
from stcompile.server.errors import RequestError, invalid, of_exception, too_large
from stcompile.server.gate import KNOWN, App, Gate, Receive, Scope, Send
from stcompile.server.metrics import CONTENT_TYPE, Metrics
from stcompile.server.served import Served
from stcompile.server.settings import Settings

ENDPOINTS: tuple[Endpoint, ...] = (*openai.ENDPOINTS, *tei.ENDPOINTS, *cohere.ENDPOINTS)
# Not by their path: the package may be in a zip file.
_PAGES = resources.files(__package__).joinpath("pages")
_JSON = "application/json"

# Seconds that an answer may take before somebody looks whether the client is still there.
_PATIENCE = 1.0

# What the playground's page may load: nothing of anybody else's.
_POLICY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'"
}


Handler = Callable[[Request], Awaitable[Response]]


def create_app(loaded: Mapping[str, Any], settings: Settings | None = None) -> App:
    """An ASGI application that serves what is loaded.

    Args:
        loaded: by the names that clients use, what `stcompile.load` gave; the first is taken where none is named.
        settings: limits, keys and origins.

    Returns:
        what uvicorn, hypercorn or gunicorn's workers run; one event loop, one process.
    """
    chosen = settings or Settings()
    models = {name: Served(name, one, chosen) for name, one in loaded.items()}
    server = Server(models, chosen, facts={"started": int(time.time())})
    description = written(openapi.described(ENDPOINTS, keys=bool(chosen.api_keys)))
    pages: dict[str, Callable[[], Response]] = {
        "/v1/models": lambda: _json(openai.models(server)),
        "/info": lambda: _json(info.shown(server)),
        "/health": lambda: _health(server),
        "/metrics": lambda: Response(metrics.shown(), headers={"content-type": CONTENT_TYPE}),
        "/openapi.json": lambda: _json(description),
        "/": lambda: _html("playground.html"),
        "/docs": lambda: _html("docs.html"),
        "/playground.js": lambda: _script("playground.js"),
        "/docs.js": lambda: _script("docs.js"),
    }
    bodies = {one.path: _handler(server, one) for one in ENDPOINTS}
    metrics = Metrics(models, [*pages, *bodies])
    routes = [_route(path, pages.get(path), bodies.get(path)) for path in dict.fromkeys((*bodies, *pages))]

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        server.is_ending = True
        for one in models.values():
            await one.aclose()

    paths = ", ".join(sorted(one for one in {*pages, *bodies} if not one.endswith(".js")))
    wrong: dict[Any, Any] = {
        404: lambda request, _: _no_such(404, f"there is no such path here: this server has {paths}"),
        405: lambda request, error: _no_such(405, f"{request.method} is not what this path takes", error.headers),
    }
    served = _straight(Starlette(routes=routes, lifespan=lifespan, exception_handlers=wrong), bodies)
    gate: App = Gate(served, chosen, metrics)
    if not chosen.cors:
        return gate
    # Around the gate: a page may read who was not let in, too. Clients send headers of their own, such as the
    # x-stainless-* of OpenAI's; no cookies are asked for, so that any may come.
    return CORSMiddleware(
        gate,
        allow_origins=list(chosen.cors),
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=["retry-after"],
    )


def _straight(app: Starlette, bodies: Mapping[str, Handler]) -> App:
    """The same application, whose bodies reach their handlers at once.

    Routing and the middlewares around it look for nothing that handlers do not see to themselves, and were a tenth of
    the loop's time with short texts.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        handler = bodies.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if handler is None:
            await app(scope, receive, send)
        else:
            response = await handler(Request(scope, receive, send))
            await response(scope, receive, send)

    return answer


def _handler(server: Server, endpoint: Endpoint) -> Handler:
    async def handle(request: Request) -> Response:
        known: Known = request.scope[KNOWN]
        try:
            body = await _body(request, server.settings)
            asked = endpoint.asked.model_validate_json(body)
            return _json(await _while_there(request, endpoint.answer(server, asked, known)))
        except (ClientDisconnect, asyncio.CancelledError):
            raise
        except Exception as error:  # a client gets an answer whatever happened
            told = _told(request, error)
            # Its frames hold the body and, by the name above, itself: it would stay until the collector's next round.
            told.__traceback__ = None
            if told.status == 500:
                logs.logger.error("failed", extra={"facts": {"path": endpoint.path}}, exc_info=error)
            return Response(
                written(endpoint.wrong(told)), status_code=told.status, media_type=_JSON, headers=told.headers
            )

    async def guarded(request: Request) -> Response:
        try:
            return await handle(request)
        except ClientDisconnect:
            # To nobody: the server drops it.
            return Response(status_code=499)

    return guarded


def _told(request: Request, error: Exception) -> RequestError:
    encoding = request.headers.get("content-encoding", "identity").lower()
    if isinstance(error, ValidationError) and encoding != "identity":
        return RequestError(415, "a body with Content-Encoding is not read: send JSON as it is", "encoding")
    return of_exception(error)


async def _body(request: Request, settings: Settings) -> bytes:
    """The whole body.

    Raises:
        RequestError: it is too large, or takes too long.
        ClientDisconnect: nobody sends it any more.
    """
    limit = settings.max_body
    sentence = f"a request may have {limit} bytes: send fewer texts at once"
    length = next((value for name, value in request.scope["headers"] if name == b"content-length"), b"")
    if length.isdigit() and int(length) > limit:
        raise too_large(sentence)
    parts, size = [], 0
    try:
        async with asyncio.timeout(settings.body_seconds):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise too_large(sentence)
                parts.append(part)
    except TimeoutError as error:
        raise RequestError(
            408, f"the request was not sent within {settings.body_seconds:g} s", "timeout", {"connection": "close"}
        ) from error
    if not size:
        raise invalid("the request has no body: send JSON")
    return b"".join(parts)


async def _while_there(request: Request, work: Awaitable[bytes]) -> bytes:
    """The answer; the work is given up where the client leaves before.

    Raises:
        ClientDisconnect: it left.
    """
    loop, own = asyncio.get_running_loop(), asyncio.current_task()
    assert own is not None
    watch: asyncio.Task[None] | None = None
    has_left = False

    async def give_up_when_left() -> None:
        nonlocal has_left
        while (await request.receive())["type"] != "http.disconnect":
            pass
        has_left = True
        own.cancel()

    def begin() -> None:
        nonlocal watch
        watch = loop.create_task(give_up_when_left())

    # Most answers are there before: to watch over each from the start would cost a task of its own.
    later = loop.call_later(_PATIENCE, begin)
    try:
        return await work
    except asyncio.CancelledError:
        if not has_left:
            raise
        own.uncancel()
        raise ClientDisconnect from None
    finally:
        later.cancel()
        if watch is not None:
            watch.cancel()


def _health(server: Server) -> Response:
    if server.is_ending:
        return _json(written({"status": "ending"}), 503)
    return _json(written({"status": "ok"}))


def _no_such(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """Of a path that nobody has, nobody knows whose clients ask: the error has the fields of all."""
    error = RequestError(status, sentence, "not_found")
    content = {**cohere.wrong(error), **tei.wrong(error), **openai.wrong(error)}
    return Response(written(content), status_code=status, media_type=_JSON, headers=headers)


def _json(content: bytes, status: int = 200) -> Response:
    return Response(content, status_code=status, media_type=_JSON)


def _route(path: str, page: Callable[[], Response] | None, body: Handler | None) -> Route:
    """What a path answers to GET and to POST: one route, whose 405 names all that there is."""

    # A coroutine: Starlette would run anything else on a thread.
    async def answer(request: Request) -> Response:
        if body is not None and request.method == "POST":
            return await body(request)
        assert page is not None
        return page()

    methods = [*(["GET"] if page else []), *(["POST"] if body else [])]
    return Route(path, answer, methods=methods)


def _html(name: str) -> Response:
    return HTMLResponse(_PAGES.joinpath(name).read_bytes(), headers=_POLICY)


def _script(name: str) -> Response:
    return Response(_PAGES.joinpath(name).read_bytes(), media_type="text/javascript")
