"""Connections → requests, under pressure: how many may be open, and how long each may take to say what it wants.

uvicorn reads HTTP; what it leaves open is bounded here. One viewer's connections are counted apart from all others',
so that nobody can take every place; a connection that has not sent a whole request head in time, or that no longer
reads what it asked for, is closed; and when every place is taken, one that waits idly gives way to the newcomer.
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
    """What strangers may take.

    Args:
        connections: most of all viewers together.
        per_viewer: most of one viewer (`client_key`).
        head_s: longest wait for a request's whole head, from its first chance to be sent.
        stall_s: longest wait for a viewer to read what was written.
        proxies: addresses of reverse proxies: their connections are not counted per viewer, and their
            X-Forwarded-For is believed.
    """

    connections: int = 1024
    per_viewer: int = 128
    head_s: float = 10.0
    stall_s: float = 60.0
    proxies: tuple[str, ...] = ()


def client_key(address: str) -> str:
    """Whom an address belongs to: itself, or for IPv6 its /64 network, of which one customer has all addresses."""
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
    """Who is inside, whom it lets in, and who has to go."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.inside: dict[LimitedConnection, str] = {}
        """Open connections and their viewers, the longest open first."""
        self.of_viewer: dict[str, int] = {}

    def enter(self, wire: LimitedConnection, viewer: str) -> bool:
        """Whether there is a place; it is then taken until `leave`."""
        if viewer not in self.limits.proxies and self.of_viewer.get(viewer, 0) >= self.limits.per_viewer:
            return False
        if len(self.inside) >= self.limits.connections:
            idle = next((other for other in self.inside if not other.is_working), None)
            if idle is None:
                return False
            self.leave(idle)
            idle.transport.abort()
        self.inside[wire] = viewer
        self.of_viewer[viewer] = self.of_viewer.get(viewer, 0) + 1
        return True

    def leave(self, wire: LimitedConnection) -> None:
        """Give the place back, if it had one."""
        viewer = self.inside.pop(wire, None)
        if viewer is not None:
            self.of_viewer[viewer] -= 1
            if not self.of_viewer[viewer]:
                del self.of_viewer[viewer]


class LimitedConnection(H11Protocol):
    """One connection."""

    def __init__(self, *args: Any, door: ConnectionLimiter, **words: Any) -> None:
        super().__init__(*args, **words)
        self.door, self.is_refused, self.has_spoken = door, False, False
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    @property
    def is_working(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        peer = transport.get_extra_info("peername")
        if not self.door.enter(self, client_key(str(peer[0]) if peer else "")):
            self.is_refused = True
            self._say(429, "too many connections", "close some, or wait a moment")
            return
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        if self.is_refused:
            return
        self.has_spoken = True
        super().data_received(data)
        # A head that comes byte by byte does not get a new deadline with each byte.
        if self.is_working:
            self._expect_nothing()
        elif self._deadline is None:
            self._expect()

    def on_response_complete(self) -> None:
        self._expect_nothing()
        self.has_spoken = False
        super().on_response_complete()
        if self.transport.is_closing():
            self._close_for_good()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        if self.transport.is_closing():
            self._close_for_good()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(self.door.limits.stall_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled:
            self._stalled.cancel()
            self._stalled = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.leave(self)
        self._expect_nothing()
        if self._stalled:
            self._stalled.cancel()
        if not self.is_refused:
            super().connection_lost(exc)

    def _unsupported_upgrade_warning(self) -> None:
        """Anybody may ask for a WebSocket; that none is here is no news to who runs the server."""

    def _expect(self) -> None:
        self._deadline = self.loop.call_later(self.door.limits.head_s, self._too_slow)

    def _expect_nothing(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self.has_spoken:
            self._say(408, "the request did not arrive in time", "send it whole")
        else:
            self.transport.abort()

    def _say(self, status: int, message: str, hint: str) -> None:
        """A error_response that needs no request, then the end."""
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
        """A closed connection still waits for its viewer to read the rest; not for ever."""
        asyncio.get_running_loop().call_later(self.door.limits.stall_s, self.transport.abort)
