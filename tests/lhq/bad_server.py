"""A web server that misbehaves, on loopback: it truncates, stalls, drips, lies, loops and refuses on demand.

Every path is answered by the first route whose prefix fits. Requests are remembered when they arrive (`seen`) and
when they were answered whole (`answered`), so that a test can say what was asked twice.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

import pytest

from lhq.config import HttpSettings
from lhq.errors import FetchError
from lhq.http import Client


@dataclass(frozen=True)
class Request:
    """One request as it came over the wire; `path` is without its query."""

    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


class Talk:
    """One request being answered. A route calls `send`, or `raw` for anything that is no HTTP."""

    def __init__(self, sock: socket.socket, request: Request, closing: threading.Event) -> None:
        self.request, self._sock, self.closing = request, sock, closing
        self.may_live = True

    def raw(self, data: bytes) -> None:
        self._sock.sendall(data)

    def pipe(self, other: socket.socket) -> None:
        """Carry bytes both ways until either side ends."""
        ends = {self._sock: other, other: self._sock}
        while not self.closing.is_set():
            for sock in select.select([*ends], [], [], 0.1)[0]:
                block = sock.recv(65536)
                if not block:
                    return
                ends[sock].sendall(block)

    def hang_up(self, *, rudely: bool = False) -> None:
        """Close the connection; `rudely` with a reset."""
        if rudely:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.may_live = False

    def head(self, status: int, headers: Mapping[str, str], length: int | None) -> None:
        lines = [f"HTTP/1.1 {status} Because"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")

    def send(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.head(status, headers or {}, len(body))
        self.raw(body)


Route = Callable[[Talk], None]


def answer(body: bytes = b"", status: int = 200, **headers: str) -> Route:
    """An ordinary answer; `x_robots_tag="noai"` becomes a header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda talk: talk.send(status, body, named)


def as_json(value: object, status: int = 200, **headers: str) -> Route:
    return answer(json.dumps(value).encode(), status, **headers)


def redirect(to: str, status: int = 302) -> Route:
    return answer(b"", status, location=to)


def truncated(body: bytes, keep: int) -> Route:
    """Promises all, sends `keep` bytes, hangs up."""

    def route(talk: Talk) -> None:
        talk.head(200, {}, len(body))
        talk.raw(body[:keep])
        talk.hang_up()

    return route


def stalling(body: bytes, after: int) -> Route:
    """Sends `after` bytes, then nothing until the test ends."""

    def route(talk: Talk) -> None:
        talk.head(200, {}, len(body))
        talk.raw(body[:after])
        talk.closing.wait(30)
        talk.hang_up()

    return route


def dripping(start: bytes, rest: bytes, every_s: float = 0.05) -> Route:
    """Sends `start` at once and `rest` one byte at a time: no read ever times out."""

    def route(talk: Talk) -> None:
        talk.raw(start)
        for at in range(len(rest)):
            if talk.closing.wait(every_s):
                break
            talk.raw(rest[at : at + 1])
        talk.hang_up()

    return route


def chunked(blocks: Sequence[bytes], *, is_whole: bool = True) -> Route:
    """An answer without a length."""

    def route(talk: Talk) -> None:
        talk.head(200, {"Transfer-Encoding": "chunked"}, None)
        for block in blocks:
            talk.raw(f"{len(block):x}\r\n".encode() + block + b"\r\n")
        if is_whole:
            talk.raw(b"0\r\n\r\n")
        else:
            talk.hang_up()

    return route


def in_turn(*routes: Route) -> Route:
    """The first call goes to the first route, and so on; the last one repeats."""
    left, lock = list(routes), threading.Lock()

    def route(talk: Talk) -> None:
        with lock:
            chosen = left.pop(0) if len(left) > 1 else left[0]
        chosen(talk)

    return route


_OF_HOST = ("/robots.txt", "/.well-known/tdmrep.json")


@dataclass
class Server:
    """`with Server({"/a": answer(b"…")}) as server: server.url("/a")`; the longest fitting prefix answers."""

    routes: dict[str, Route] = field(default_factory=dict)
    host: str = "127.0.0.1"
    seen: list[Request] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    num_connections: int = 0
    tls: ssl.SSLContext | None = None

    def __enter__(self) -> Server:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = socket.socket(family)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((self.host, 0))
        self._listener.listen(128)
        self.port: int = self._listener.getsockname()[1]
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()  # before the rest: a connection that it has just accepted would stay open
        self._listener.close()
        with self._lock:
            for sock in self._sockets:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    @property
    def netloc(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str = "") -> str:
        return f"http{'s' if self.tls else ''}://{self.netloc}{path}"

    def paths(self) -> list[str]:
        """Requested paths in order, without the host's robots.txt and tdmrep.json."""
        with self._lock:
            return [request.path for request in self.seen if request.path not in _OF_HOST]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.num_connections += 1
                self._sockets.add(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self.tls is not None:
                sock = self._secured(sock, self.tls)
            with sock, sock.makefile("rb") as stream:
                while (request := _read(stream)) is not None:
                    with self._lock:
                        self.seen.append(request)
                    talk = Talk(sock, request, self._closing)
                    self._route(request.path)(talk)
                    with self._lock:
                        self.answered[request.path] += 1
                    if not talk.may_live:
                        return
        except OSError:
            return
        finally:
            with self._lock:
                self._sockets.discard(sock)

    def _secured(self, sock: socket.socket, tls: ssl.SSLContext) -> socket.socket:
        with self._lock:
            self._sockets.discard(sock)
        sock = tls.wrap_socket(sock, server_side=True)
        with self._lock:
            self._sockets.add(sock)
        return sock

    def _route(self, path: str) -> Route:
        fitting = [prefix for prefix in self.routes if path.startswith(prefix)]
        return self.routes[max(fitting, key=len)] if fitting else answer(b"nothing here", 404)


def _read(stream: object) -> Request | None:
    line = stream.readline().decode("latin-1").split()  # type: ignore[attr-defined]
    if len(line) < 2:
        return None
    headers = {}
    while (text := stream.readline().decode("latin-1").strip()) != "":  # type: ignore[attr-defined]
        name, _, value = text.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", "0")))  # type: ignore[attr-defined]
    parts = urlsplit(line[1])
    params = dict(parse_qsl(parts.query)) | dict(parse_qsl(body.decode("latin-1")))
    return Request(line[0], parts.path, params, headers, body)


class Reachable(Protocol):
    """A server, or something in front of one."""

    @property
    def netloc(self) -> str: ...


def client(*servers: Reachable, **changes: Any) -> Client:
    """A client that may reach these servers, in no hurry to give up and in a hurry to try again."""
    settings = {"allow_hosts": [server.netloc for server in servers], "robots": False, "pace_per_s": 1e6}
    return Client(HttpSettings.model_validate({**settings, "total_timeout_s": 20, "retry_delay_s": 0.01, **changes}))


def refusal(found: Client, url: str) -> FetchError:
    """What the client says of an address that it can't fetch."""
    with pytest.raises(FetchError) as caught:
        found.fetch(url)
    return caught.value
