"""Limits on connections: how many may be open, and how long each may take to send a request and read the response.

uvicorn reads HTTP, but does not limit these. Connections are counted per viewer, so that no viewer can use them all. A
connection is closed if it does not send a complete request head in time, or stops reading its response. When all
connections are in use, an idle one is closed for a new one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_RETRY_S = 1


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits on connections.

    Args:
        connections: largest number of open connections of all viewers together.
        per_viewer: largest number of open connections of one viewer (`client_key`).
        head_s: longest time to receive a complete request head, from when the connection could send it.
        stall_s: longest time that a viewer may take to read what was written.
        proxies: addresses of reverse proxies: their connections are not limited per viewer, and their
            X-Forwarded-For header is trusted.
    """

    connections: int = 1024
    per_viewer: int = 128
    head_s: float = 10.0
    stall_s: float = 60.0
    proxies: tuple[str, ...] = ()


def client_key(address: str) -> str:
    """The key that connections of one viewer are counted under: the IPv4 address, or the IPv6 /64 network.

    An internet customer usually gets a whole /64.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


class ConnectionLimiter:
    """Counts the open connections and decides which may be opened and which must be closed."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.open: dict[LimitedConnection, str] = {}
        """Open connections and their viewers, the longest open first."""
        self.num_of_viewer: dict[str, int] = {}

    def acquire(self, connection: LimitedConnection, viewer: str) -> bool:
        """Whether the connection may be opened; if so, it counts until `release`."""
        if viewer not in self.limits.proxies and self.num_of_viewer.get(viewer, 0) >= self.limits.per_viewer:
            return False
        if len(self.open) >= self.limits.connections:
            idle = next((other for other in self.open if not other.is_working), None)
            if idle is None:
                return False
            self.release(idle)
            idle.transport.abort()
        self.open[connection] = viewer
        self.num_of_viewer[viewer] = self.num_of_viewer.get(viewer, 0) + 1
        return True

    def release(self, connection: LimitedConnection) -> None:
        """No longer count the connection; does nothing if it was not counted."""
        viewer = self.open.pop(connection, None)
        if viewer is not None:
            self.num_of_viewer[viewer] -= 1
            if not self.num_of_viewer[viewer]:
                del self.num_of_viewer[viewer]


class LimitedConnection(H11Protocol):
    """One HTTP connection of uvicorn, within the limits."""

    def __init__(self, *args: Any, limiter: ConnectionLimiter, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limiter, self.is_refused, self.has_sent_data = limiter, False, False
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    @property
    def is_working(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        peer = transport.get_extra_info("peername")
        if not self.limiter.acquire(self, client_key(str(peer[0]) if peer else "")):
            self.is_refused = True
            self._refuse(429, "too many connections", "close some, or wait a moment")
            return
        super().connection_made(transport)
        self._start_deadline()

    def data_received(self, data: bytes) -> None:
        if self.is_refused:
            return
        self.has_sent_data = True
        super().data_received(data)
        # A head that comes byte by byte does not get a new deadline with each byte.
        if self.is_working:
            self._cancel_deadline()
        elif self._deadline is None:
            self._start_deadline()

    def on_response_complete(self) -> None:
        self._cancel_deadline()
        self.has_sent_data = False
        super().on_response_complete()
        if self.transport.is_closing():
            self._close_for_good()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        if self.transport.is_closing():
            self._close_for_good()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(self.limiter.limits.stall_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled:
            self._stalled.cancel()
            self._stalled = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.limiter.release(self)
        self._cancel_deadline()
        if self._stalled:
            self._stalled.cancel()
        if not self.is_refused:
            super().connection_lost(exc)

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: anybody may ask for a WebSocket, and the operator need not know."""

    def _start_deadline(self) -> None:
        self._deadline = self.loop.call_later(self.limiter.limits.head_s, self._time_out)

    def _cancel_deadline(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _time_out(self) -> None:
        self._deadline = None
        if self.has_sent_data:
            self._refuse(408, "the request did not arrive in time", "send it whole")
        else:
            self.transport.abort()

    def _refuse(self, status: int, message: str, hint: str) -> None:
        """Send an error response, without waiting for a request, and close the connection."""
        phrase = {408: "Request Timeout", 429: "Too Many Requests"}[status]
        body = json.dumps({"error": message, "hint": hint}, separators=(",", ":")).encode()
        retry = f"Retry-After: {_RETRY_S}\r\n" if status == 429 else ""
        head = (
            f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"{retry}Connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
        self._close_for_good()

    def _close_for_good(self) -> None:
        """Abort a closing connection whose viewer does not read the rest in time."""
        asyncio.get_running_loop().call_later(self.limiter.limits.stall_s, self.transport.abort)
