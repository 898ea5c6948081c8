"""The transport adapter of a `requests` session: urllib3 pools that connect only to addresses checked by the guard.

However the layers above rewrite a URL, the guard checks the host and port that reach the socket, and the socket
connects to the checked address itself. Connections register with the deadline of the exchange that uses them. Two
habits of real servers are handled below the HTTP parser: interim responses (103 Early Hints), and invalid header lines,
after which the parser would stop and miss later headers, such as an opt-out.
"""

from __future__ import annotations

import errno
import functools
import http.client
import os
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import IO, Any, TypeVar

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar
from urllib3.connection import HTTPConnection, HTTPSConnection

from lhq.errors import FetchError
from lhq.http.deadline import ConnectionHandle, Deadline, Deadlines
from lhq.http.environment import NetworkEnvironment
from lhq.http.guard import Target, clean

T = TypeVar("T")
Address = tuple[socket.AddressFamily, str]
_MAX_POOLS = 256
# Every TLS connection verifies the server's certificate.
_POOL_OPTIONS: dict[str, dict[str, Any]] = {"http": {}, "https": {"cert_reqs": "CERT_REQUIRED"}}
_MAX_INTERIM_RESPONSES = 20
_MAX_INVALID_LINES = 200
_HEADER = re.compile(rb"([!-9;-~]+)[ \t]*(:.*)", re.DOTALL)


class Dialler:
    """Opens TCP connections for urllib3.

    Args:
        addresses: host and port → allowed addresses; raises FetchError. Called for every connection, in its own thread,
            since a resolver can't be interrupted.
    """

    def __init__(
        self, deadlines: Deadlines, addresses: Callable[[str, int], list[Address]], connect_timeout_s: float
    ) -> None:
        self.deadlines = deadlines
        self._addresses, self._timeout_s = addresses, connect_timeout_s

    def dial(self, host: str, port: int) -> tuple[socket.socket, ConnectionHandle]:
        """Connect to one of the host's addresses, under the deadline of this thread's exchange.

        Raises:
            FetchError: as `addresses`; `timeout`; `connect`.
        """
        deadline = self.deadlines.current()
        last_error: OSError | None = None
        for family, address in run_with_deadline(
            deadline, lambda: self._addresses(host, port), f"{host}: looking up the name"
        ):
            sock = socket.socket(family, socket.SOCK_STREAM)
            handle = ConnectionHandle(sock)
            deadline.watch(handle)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _connect(sock, (address, port), self._timeout_s, deadline)
                return sock, handle
            except OSError as error:
                sock.close()
                handle.release()
                last_error = error
                if deadline.ended_by:
                    break
        raise FetchError(
            f"{clean(host)}:{port}: can't connect ({last_error})",
            hint="is the service running?",
            reason="connect",
            permanent=False,
        )


# poll has no limit on file descriptors; Windows lacks it.
_Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)


def _connect(sock: socket.socket, address: tuple[str, int], timeout_s: float, deadline: Deadline) -> None:
    """Connect, polling the deadline: shutting down a socket doesn't interrupt a pending connect."""
    sock.settimeout(0)
    error = sock.connect_ex(address)
    give_up_at = time.monotonic() + timeout_s
    with _Selector() as selector:
        selector.register(sock, selectors.EVENT_WRITE)
        while error in {errno.EINPROGRESS, errno.EWOULDBLOCK}:
            if deadline.ended_by or time.monotonic() > give_up_at:
                raise TimeoutError(f"no answer in {timeout_s:g} s")
            if selector.select(0.1):
                error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))
    sock.settimeout(timeout_s)


def run_with_deadline(deadline: Deadline, function: Callable[[], T], description: str) -> T:
    """Call `function`, which can't be interrupted, in a thread; FetchError `timeout` if the deadline ends first."""
    results: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)
        done.set()

    threading.Thread(target=run, name="resolve", daemon=True).start()
    while not done.wait(0.1):
        if deadline.ended_by:
            raise FetchError(
                f"{clean(description)} took too long", hint="check the network", reason="timeout", permanent=False
            )
    if errors:
        raise errors[0]
    return results[0]


class _HeaderLines:
    """A response's status and header lines, skipping lines that are not valid headers."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self._is_status = True

    def close(self) -> None:
        self.stream.close()

    def readline(self, limit: int = -1) -> bytes:
        for _ in range(_MAX_INVALID_LINES):
            line = self.stream.readline(limit)
            if self._is_status:
                self._is_status = False
                return line
            if not line.strip(b"\r\n"):
                self._is_status = True
                return line
            if line[:1] in b" \t" or len(line) >= limit > 0:
                return line
            if results := _HEADER.fullmatch(line):
                return results[1] + results[2]
        raise http.client.HTTPException(f"more than {_MAX_INVALID_LINES} odd header lines")


class _Response(http.client.HTTPResponse):
    """An `HTTPResponse` that tolerates interim responses and invalid header lines."""

    def begin(self) -> None:
        super_begin, stream = super().begin, self.fp
        self.fp = _HeaderLines(stream)  # type: ignore[assignment]
        try:
            super_begin()
            for _ in range(_MAX_INTERIM_RESPONSES):
                if not 100 <= self.status < 200 or self.status == 101:
                    break
                self.headers = self.msg = None  # type: ignore[assignment]
                super_begin()
        finally:
            if self.fp is not None:
                self.fp = stream


class _WatchedConnection:
    """Registers connections with the current exchange's deadline; mixed into urllib3's connection classes."""

    response_class = _Response

    def __init__(self, *args: Any, dialler: Dialler, **options: Any) -> None:
        super().__init__(*args, **options)
        self._dialler = dialler
        self._handle: ConnectionHandle | None = None
        self._was_used = False

    def _new_conn(self) -> socket.socket:
        sock, self._handle = self._dialler.dial(self.host, self.port)  # type: ignore[attr-defined]
        self._was_used = False
        return sock

    def request(self, *args: Any, **options: Any) -> None:
        deadline = self._dialler.deadlines.current()
        deadline.is_reused = self._was_used and self._handle is not None
        if self._handle is not None:
            deadline.watch(self._handle)
        super().request(*args, **options)  # type: ignore[misc]
        self._was_used = True

    def close(self) -> None:
        super().close()  # type: ignore[misc]
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.release()


class _HttpConnection(_WatchedConnection, HTTPConnection):  # type: ignore[misc]
    pass


class _HttpsConnection(_WatchedConnection, HTTPSConnection):  # type: ignore[misc]
    pass


class _GuardedPools:
    """Makes pools of such connections; mixed into urllib3's pool managers."""

    dialler: Dialler
    environment: NetworkEnvironment

    def _new_pool(self, scheme: str, host: str, port: int, request_context: dict[str, Any] | None = None) -> Any:
        pool = super()._new_pool(scheme, host, port, request_context)  # type: ignore[misc]
        pool.ConnectionCls = functools.partial(
            _HttpsConnection if scheme == "https" else _HttpConnection, dialler=self.dialler
        )
        if scheme == "https":
            pool.conn_kw["ssl_context"] = self.environment.tls
        return pool


class _DirectPools(_GuardedPools, urllib3.PoolManager):
    pass


class _ProxyPools(_GuardedPools, urllib3.ProxyManager):
    pass


class PreparsedRequest(requests.PreparedRequest):
    """A request whose URL is parsed already: `requests` would parse it five times on the way to the socket."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target
        self.url = target.url

    @property
    def path_url(self) -> str:
        return self.target.path


class NoCookies(RequestsCookieJar):
    """A cookie jar that stays empty."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Ignore the response's cookies."""


class GuardedAdapter(HTTPAdapter):
    """The `requests` adapter over such pools.

    Args:
        direct: opens connections to hosts, checked by the guard.
        proxied: opens connections to proxies, which the user configured.
        num_idle: idle connections kept per host.
    """

    def __init__(self, direct: Dialler, proxied: Dialler, environment: NetworkEnvironment, num_idle: int) -> None:
        self._direct, self._proxied, self._surroundings = direct, proxied, environment
        self._num_idle = num_idle
        super().__init__(pool_connections=_MAX_POOLS, pool_maxsize=num_idle, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        self.poolmanager = _DirectPools(num_pools=connections, maxsize=maxsize, block=block, **options)
        self.poolmanager.dialler, self.poolmanager.environment = self._direct, self._surroundings

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        if proxies:
            return super().get_connection_with_tls_context(request, verify, proxies, cert)
        target = request.target
        return self.poolmanager.connection_from_host(
            target.host, target.port, target.scheme, _POOL_OPTIONS[target.scheme]
        )

    def request_url(self, request: Any, proxies: Any) -> str:
        return super().request_url(request, proxies) if proxies else str(request.path_url)

    def build_response(self, req: Any, resp: Any) -> requests.Response:
        """A minimal response: only `raw` is read."""
        response = requests.Response()
        response.status_code, response.raw, response.reason = resp.status, resp, resp.reason
        response.url, response.request = req.url, req
        return response

    def proxy_manager_for(self, proxy: str, **options: Any) -> urllib3.ProxyManager:
        if proxy not in self.proxy_manager:
            tls = self._surroundings.tls if proxy.startswith("https:") else None
            pools = _ProxyPools(
                proxy,
                num_pools=_MAX_POOLS,
                maxsize=self._num_idle,
                proxy_headers=self.proxy_headers(proxy),
                proxy_ssl_context=tls,
                **options,
            )
            pools.dialler, pools.environment = self._proxied, self._surroundings
            self.proxy_manager[proxy] = pools
        results = self.proxy_manager[proxy]
        assert isinstance(results, urllib3.ProxyManager)
        return results

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing to do: the pools' TLS context has the authorities and verifies every certificate."""
