"""The application on a port, until it is asked to stop: what is being painted is finished first."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from alis.errors import InputError

_GRACE_S = 10
_MAX_CONNECTIONS = 1024


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        InputError: the address is taken or is not this machine's.
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


def run(app: FastAPI, listener: socket.socket, started: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM, then finish gracefully.

    Args:
        started: told the page's URL once it can be opened.
    """
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if not self.should_exit:
                started(url)

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_GRACE_S,
        server_header=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=30,
    )
    # uvicorn raises the signal again once it has stopped; being asked to stop is no failure.
    before = {which: signal.signal(which, lambda *_: None) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        Server(config).run(sockets=[listener])
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
        listener.close()
