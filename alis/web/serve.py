"""Serve the application on a port until it is asked to stop; requests in progress are finished first."""

from __future__ import annotations

import functools
import signal
import socket
from collections.abc import Callable
from dataclasses import replace

import uvicorn
from fastapi import FastAPI

from alis.errors import InputError
from alis.web.connections import ConnectionLimiter, ConnectionLimits, LimitedConnection

_GRACE_S = 10
_KEEP_ALIVE_S = 30
_RESERVED_FILES = 64


def bind(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free port.

    Raises:
        InputError: the address is in use or does not belong to this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(f"can't listen on {host}:{port} ({error})", hint="give another --port or --host") from None
    return listener


def settings(app: FastAPI, limits: ConnectionLimits | None = None) -> uvicorn.Config:
    """uvicorn's settings, with the limits of `alis.web.connections` on its connections."""
    limits = limits or ConnectionLimits()
    limits = replace(limits, connections=_room_for(limits.connections))
    return uvicorn.Config(
        app,
        http=functools.partial(LimitedConnection, limiter=ConnectionLimiter(limits)),  # type: ignore[arg-type]
        ws="none",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=_KEEP_ALIVE_S,
        server_header=False,
        # Only named proxies may set the viewer's address by X-Forwarded-For.
        proxy_headers=bool(limits.proxies),
        forwarded_allow_ips=list(limits.proxies),
    )


def _room_for(connections: int) -> int:
    """The number of connections that the limit on open files allows, after raising it and reserving a few files."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = connections + _RESERVED_FILES
    if soft != resource.RLIM_INFINITY and soft < want:
        soft = want if hard == resource.RLIM_INFINITY else min(want, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(min(connections, soft - _RESERVED_FILES), 1)
    return connections


def run(
    app: FastAPI, listener: socket.socket, started: Callable[[str], None], *, limits: ConnectionLimits | None = None
) -> None:
    """Serve until SIGINT or SIGTERM, then shut down gracefully.

    Args:
        started: called with the page's URL once the page can be opened.
        limits: on connections; the defaults if None.
    """
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if not self.should_exit:
                started(url)

    # uvicorn raises the signal again once it has stopped; ignore that, a requested stop is not a failure.
    before = {which: signal.signal(which, lambda *_: None) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        Server(settings(app, limits)).run(sockets=[listener])
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
        listener.close()
