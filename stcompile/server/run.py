"""Runs the server with uvicorn until somebody ends it; what was taken is answered first."""

from __future__ import annotations

import gc
import socket
import sys

import uvicorn

from stcompile.errors import InputError
from stcompile.server import logs
from stcompile.server.corked import corked
from stcompile.server.gate import App
from stcompile.server.upgrades import in_one_protocol

# Connections that wait to be taken: more clients than that at once are rare.
_BACKLOG = 2048

# Seconds after which a thread that runs Python lets another one: between the loop and the workers Python's own 5 ms
# cost a quarter of the requests of 512 clients, and a third of their p99.
_SWITCH = 0.001

# Objects that are made before Python looks for rings among them, in place of 700: with 512 clients as many requests
# live at any time, and to look at each of them again and again cost a twelfth of what is answered.
_YOUNG = 20_000


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        InputError: it cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # All addresses of IPv6 are those of IPv4, too, where the system can: who asks for `::` wants all.
        is_all = family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
        found = socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=is_all)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot listen on {host}, port {port}: {reason}") from error
    found.set_inheritable(True)
    return found


def run(app: App, listening: socket.socket, grace: float) -> None:
    """Serves on that socket until SIGINT or SIGTERM.

    Args:
        app: what answers.
        listening: where.
        grace: seconds that requests in flight may still take when it ends.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        # Nobody is told apart by an address.
        proxy_headers=False,
        lifespan="on",
        timeout_graceful_shutdown=max(1, round(grace)),
    )
    config.load()
    config.http_protocol_class = in_one_protocol(corked(config.http_protocol_class))
    host, port = listening.getsockname()[:2]
    logs.event("listening", host=host, port=port)
    before, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(_SWITCH)
    # What is loaded stays: it need not be looked at.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *thresholds[1:])
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:  # it hands on the signal that ended it
        sys.setswitchinterval(before)
        gc.set_threshold(*thresholds)
        gc.unfreeze()
        logs.event("ended")
