"""One request → one answer: kept-alive connections, and caps on bytes, time and memory that hold at every byte.

`http.client` moves the bytes: at 0.8 MB a photo it costs half a millisecond less than a session of requests.
Its reads wait for whole lines and whole blocks, so a server that drips one byte a second would outlast any socket
timeout: a watchman thread shuts the socket at the deadline instead, header lines and TLS handshake included.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import certifi

from lhq.errors import FetchError
from lhq.http.guard import Guard, Target, clean

IDLE_LONGEST_S = 30.0
MEMORY_CAP = 64 * 2**20
UNKNOWN_LENGTH = 8 * 2**20
_BLOCK = 128 * 1024

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; header names are lower-case, repeated ones joined by commas. `url` is the final one."""

    url: str
    status: int
    headers: Headers
    body: bytes | bytearray


def failure(target: Target, what: str, reason: str, *, permanent: bool = False, hint: str = "") -> FetchError:
    return FetchError(
        f"{clean(target.url, limit=120)}: {what}",
        hint=hint or "it is tried again later",
        reason=reason,
        permanent=permanent,
    )


class Watchman:
    """Shuts the sockets of exchanges that outlast their deadline; one thread, started at first use."""

    def __init__(self) -> None:
        self._deadlines: dict[int, tuple[float, socket.socket]] = {}
        self._late: set[int] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ticket = 0
        self._aborted = False

    @contextlib.contextmanager
    def watching(self, sock: socket.socket, seconds: float) -> Iterator[Callable[[], bool]]:
        """Guard a block of reads and writes; yields a function that says whether the deadline struck."""
        with self._lock:
            self._ticket += 1
            ticket = self._ticket
            self._deadlines[ticket] = (time.monotonic() + seconds if not self._aborted else 0.0, sock)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="watchman", daemon=True)
                self._thread.start()
        try:
            yield lambda: ticket in self._late
        finally:
            with self._lock:
                self._deadlines.pop(ticket, None)
                self._late.discard(ticket)

    def abort(self) -> None:
        """Every exchange under way, and every later one, ends now."""
        with self._lock:
            self._aborted = True
            self._deadlines = {ticket: (0.0, sock) for ticket, (_, sock) in self._deadlines.items()}

    def _watch(self) -> None:
        while True:
            time.sleep(0.1)
            now = time.monotonic()
            with self._lock:
                for ticket, (deadline, sock) in list(self._deadlines.items()):
                    if now >= deadline:
                        self._late.add(ticket)
                        del self._deadlines[ticket]
                        # Past the TLS layer: its own shutdown would race with the thread that reads.
                        with contextlib.suppress(OSError):
                            socket.socket.shutdown(sock, socket.SHUT_RDWR)


class Budget:
    """Bytes of bodies in memory at once, over all threads."""

    def __init__(self, cap: int) -> None:
        self._cap = self._free = cap
        self._changed = threading.Condition()

    def take(self, size: int) -> int:
        """Wait for room; a body larger than the whole budget travels alone. Returns what to give back."""
        size = min(size, self._cap)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        return size

    def give_back(self, size: int) -> None:
        with self._changed:
            self._free += size
            self._changed.notify_all()


class _Connection(http.client.HTTPConnection):
    """A connection to a judged address; `sock` is None until `connect`."""

    def __init__(self, guard: Guard, target: Target, tls: ssl.SSLContext | None, connect_timeout_s: float) -> None:
        super().__init__(target.host, target.port)
        self._guard, self._target, self._tls, self._connect_timeout_s = guard, target, tls, connect_timeout_s
        self.idle_since = 0.0

    def connect(self) -> None:
        self.sock = self._guard.connect(self._target, self._connect_timeout_s)

    def wrap(self) -> None:
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._target.host)

    def is_stale(self) -> bool:
        """Readable while idle: the server has closed it (or talks out of turn)."""
        if time.monotonic() - self.idle_since > IDLE_LONGEST_S or self.sock is None:
            return True
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(0))


class Wire:
    """Exchanges with any host, connections kept alive between them. Safe to use from many threads."""

    def __init__(
        self, guard: Guard, *, connect_timeout_s: float, read_timeout_s: float, total_timeout_s: float
    ) -> None:
        self.guard = guard
        self.budget = Budget(MEMORY_CAP)
        self._connect_timeout_s, self._read_timeout_s = connect_timeout_s, read_timeout_s
        self._total_timeout_s = total_timeout_s
        self._tls: ssl.SSLContext | None = None
        self._idle: dict[tuple[str, str], list[_Connection]] = {}
        self._lock = threading.Lock()
        self._watchman = Watchman()
        self.is_aborted = False

    def exchange(
        self,
        method: str,
        target: Target,
        headers: Headers,
        body: bytes | None = None,
        *,
        max_bytes: int,
        judge: Callable[[int, Headers], None] | None = None,
    ) -> Answer:
        """Ask once, no redirects followed.

        Args:
            judge: sees status and headers before the body is read, and raises to refuse it.

        Raises:
            FetchError: `connect`, `unresolved`, `forbidden-address`, `tls`, `timeout`, `disconnected`,
                `truncated`, `too-large`, `bad-answer`, `stopped`, or what `judge` raises.
        """
        connection, is_used = self._take(target)
        try:
            if connection.sock is None:
                connection.connect()
            with self._watchman.watching(connection.sock, self._total_timeout_s) as is_late:
                try:
                    answer, may_live = self._talk(connection, method, target, headers, body, max_bytes, judge, is_used)
                    if is_late():  # an answer without a length, or cut within its headers, looks whole when shut
                        raise TimeoutError
                except (OSError, http.client.HTTPException, zlib.error) as error:
                    raise self._translate(error, target, is_late()) from error
                except FetchError as error:
                    # To the reader a socket that the watchman shut looks like an early end.
                    if error.reason == "truncated" and is_late():
                        raise self._translate(TimeoutError(), target, True) from error
                    raise
        except _StaleError:
            connection.close()
            return self.exchange(method, target, headers, body, max_bytes=max_bytes, judge=judge)
        except BaseException:
            connection.close()
            raise
        if may_live:
            self._keep(target, connection)
        else:
            connection.close()
        return answer

    def abort(self) -> None:
        """End every exchange under way; used when a stop must not wait for slow servers."""
        self.is_aborted = True
        self._watchman.abort()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def _talk(
        self,
        connection: _Connection,
        method: str,
        target: Target,
        headers: Headers,
        body: bytes | None,
        max_bytes: int,
        judge: Callable[[int, Headers], None] | None,
        is_used: bool,
    ) -> tuple[Answer, bool]:
        assert connection.sock is not None
        if not is_used:
            connection.wrap()
        connection.sock.settimeout(self._read_timeout_s)
        try:
            connection.request(method, target.path, body, {"Host": target.host_header, **headers})
            response = connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            if is_used:  # closed while idle, before it saw the request
                raise _StaleError from None
            raise
        found: dict[str, str] = {}
        for name, value in response.getheaders():
            name = name.lower()
            found[name] = f"{found[name]}, {value}" if name in found else value
        if judge is not None:
            judge(response.status, found)
        if method == "HEAD" or 300 <= response.status < 400:
            return Answer(target.url, response.status, found, b""), False
        data = self._body(response, target, found, max_bytes)
        return Answer(target.url, response.status, found, data), not response.will_close

    def _body(self, response: http.client.HTTPResponse, target: Target, headers: Headers, max_bytes: int) -> bytearray:
        length = response.length
        if length is not None and length > max_bytes:
            raise _too_large(target, f"{length:,} bytes promised", max_bytes)
        held = self.budget.take(length if length is not None else min(max_bytes, UNKNOWN_LENGTH))
        try:
            if length is not None:
                data = bytearray(length)
                view, got = memoryview(data), 0
                while got < length:
                    num = response.readinto(view[got:])
                    if not num:
                        raise failure(target, f"{got:,} bytes of {length:,} came", "truncated")
                    got += num
                response.read()  # marks the answer as read, so that the connection may live
            else:
                data = bytearray()
                while block := response.read1(_BLOCK):
                    data += block
                    if len(data) > max_bytes:
                        raise _too_large(target, "more", max_bytes)
        finally:
            self.budget.give_back(held)
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding in {"gzip", "x-gzip", "deflate"}:
            return _inflate(data, target, max_bytes)
        if encoding not in {"", "identity"}:
            raise failure(target, f"content encoding {clean(encoding)!r} was not asked for", "bad-answer")
        return data

    def _translate(self, error: Exception, target: Target, is_late: bool) -> FetchError:
        if self.is_aborted:
            return failure(target, "stopped", "stopped")
        if is_late:
            return failure(target, f"not done after {self._total_timeout_s:g} s", "timeout")
        if isinstance(error, TimeoutError):
            return failure(target, f"silent for {self._read_timeout_s:g} s", "timeout")
        if isinstance(error, ssl.SSLError):
            return failure(target, f"TLS: {clean(error)}", "tls")
        if isinstance(error, http.client.IncompleteRead):
            return failure(target, "the answer broke off", "truncated")
        if isinstance(error, (http.client.RemoteDisconnected, OSError)):
            return failure(target, f"connection lost ({clean(error)})", "disconnected")
        return failure(target, f"not HTTP ({type(error).__name__}: {clean(error, limit=80)})", "bad-answer")

    def _take(self, target: Target) -> tuple[_Connection, bool]:
        """An idle connection that is still good (True), or a new one."""
        place = (target.scheme, target.netloc)
        with self._lock:
            idle = self._idle.get(place, [])
            while idle:
                connection = idle.pop()
                if not connection.is_stale():
                    return connection, True
                connection.close()
            if target.scheme == "https" and self._tls is None:
                self._tls = ssl.create_default_context(cafile=certifi.where())
        tls = self._tls if target.scheme == "https" else None
        return _Connection(self.guard, target, tls, self._connect_timeout_s), False

    def _keep(self, target: Target, connection: _Connection) -> None:
        connection.idle_since = time.monotonic()
        with self._lock:
            self._idle.setdefault((target.scheme, target.netloc), []).append(connection)


class _StaleError(Exception):
    """A kept-alive connection turned out to be closed before the request reached anyone."""


def _too_large(target: Target, what: str, max_bytes: int) -> FetchError:
    return failure(
        target,
        f"{what}, the cap is {max_bytes:,}",
        "too-large",
        permanent=True,
        hint="raise [http] max_bytes if such photos are meant",
    )


def _inflate(data: bytearray, target: Target, max_bytes: int) -> bytearray:
    engine = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    out = bytearray(engine.decompress(data, max_bytes + 1))
    if len(out) > max_bytes:
        raise _too_large(target, "more when unpacked", max_bytes)
    if not engine.eof:
        raise failure(target, "the packed answer broke off", "truncated")
    return out
