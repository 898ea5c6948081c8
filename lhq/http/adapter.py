"""The transport under a `requests` session: urllib3's pools, whose connections go to judged addresses only.

Whatever a URL is made into on its way down, the host and port that reach the socket are what the guard judges here,
and the judged address itself is connected. Connections report to the deadline of the exchange that uses them. Two
habits of real servers are met below the HTTP parser: interim answers (103 Early Hints) before the final one, and
lines that are not headers, after which the parser would stop and miss later headers, such as an opt-out.
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
from lhq.http.deadline import Deadline, Deadlines, Line
from lhq.http.guard import Target, clean
from lhq.http.surroundings import Surroundings

T = TypeVar("T")
Address = tuple[socket.AddressFamily, str]
_MOST_HOSTS = 256
# What is asked of every pool: a certificate that is checked.
_VERIFIED: dict[str, dict[str, Any]] = {"http": {}, "https": {"cert_reqs": "CERT_REQUIRED"}}
_MOST_INTERIM = 20
_MOST_ODD_LINES = 200
_HEADER = re.compile(rb"([!-9;-~]+)[ \t]*(:.*)", re.DOTALL)


class Dialler:
    """Opens TCP connections for urllib3.

    Args:
        addresses: host and port → the addresses that may be connected; raises FetchError. Asked again for every
            connection, in a thread of its own, since a resolver can't be interrupted.
    """

    def __init__(
        self, deadlines: Deadlines, addresses: Callable[[str, int], list[Address]], connect_timeout_s: float
    ) -> None:
        self.deadlines = deadlines
        self._addresses, self._timeout_s = addresses, connect_timeout_s

    def dial(self, host: str, port: int) -> tuple[socket.socket, Line]:
        """A connection to one of the host's addresses, watched by the deadline of this thread's exchange.

        Raises:
            FetchError: as `addresses`; `timeout`; `connect`.
        """
        deadline = self.deadlines.current()
        problem: OSError | None = None
        for family, address in within(deadline, lambda: self._addresses(host, port), f"{host}: looking up the name"):
            sock = socket.socket(family, socket.SOCK_STREAM)
            line = Line(sock)
            deadline.watch(line)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _connect(sock, (address, port), self._timeout_s, deadline)
                return sock, line
            except OSError as error:
                sock.close()
                line.let_go()
                problem = error
                if deadline.cut:
                    break
        raise FetchError(
            f"{clean(host)}:{port}: can't connect ({problem})",
            hint="is the service running?",
            reason="connect",
            permanent=False,
        )


# poll takes sockets of any number, and Windows has it not.
_Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)


def _connect(sock: socket.socket, address: tuple[str, int], timeout_s: float, deadline: Deadline) -> None:
    """Connect, but not past the deadline: a shutdown does not reach a socket that only begins to connect."""
    sock.settimeout(0)
    error = sock.connect_ex(address)
    until = time.monotonic() + timeout_s
    with _Selector() as selector:
        selector.register(sock, selectors.EVENT_WRITE)
        while error in {errno.EINPROGRESS, errno.EWOULDBLOCK}:
            if deadline.cut or time.monotonic() > until:
                raise TimeoutError(f"no answer in {timeout_s:g} s")
            if selector.select(0.1):
                error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))
    sock.settimeout(timeout_s)


def within(deadline: Deadline, work: Callable[[], T], what: str) -> T:
    """The result of work that can't be interrupted, or FetchError `timeout` when the deadline strikes first."""
    found: list[T] = []
    problems: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            problems.append(error)
        done.set()

    threading.Thread(target=run, name="resolve", daemon=True).start()
    while not done.wait(0.1):
        if deadline.cut:
            raise FetchError(
                f"{clean(what)} took too long", hint="check the network", reason="timeout", permanent=False
            )
    if problems:
        raise problems[0]
    return found[0]


class _Lines:
    """The head of an answer, line by line, leaving out lines that are not headers."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self._is_status = True

    def close(self) -> None:
        self.stream.close()

    def readline(self, limit: int = -1) -> bytes:
        for _ in range(_MOST_ODD_LINES):
            line = self.stream.readline(limit)
            if self._is_status:
                self._is_status = False
                return line
            if not line.strip(b"\r\n"):
                self._is_status = True
                return line
            if line[:1] in b" \t" or len(line) >= limit > 0:
                return line
            if found := _HEADER.fullmatch(line):
                return found[1] + found[2]
        raise http.client.HTTPException(f"more than {_MOST_ODD_LINES} odd header lines")


class _Response(http.client.HTTPResponse):
    """An answer as servers speak it."""

    def begin(self) -> None:
        super_begin, stream = super().begin, self.fp
        self.fp = _Lines(stream)  # type: ignore[assignment]
        try:
            super_begin()
            for _ in range(_MOST_INTERIM):
                if not 100 <= self.status < 200 or self.status == 101:
                    break
                self.headers = self.msg = None  # type: ignore[assignment]
                super_begin()
        finally:
            if self.fp is not None:
                self.fp = stream


class _Watched:
    """What both kinds of connection do more than urllib3's."""

    response_class = _Response

    def __init__(self, *args: Any, dialler: Dialler, **options: Any) -> None:
        super().__init__(*args, **options)
        self._dialler = dialler
        self._line: Line | None = None
        self._has_spoken = False

    def _new_conn(self) -> socket.socket:
        sock, self._line = self._dialler.dial(self.host, self.port)  # type: ignore[attr-defined]
        self._has_spoken = False
        return sock

    def request(self, *args: Any, **options: Any) -> None:
        deadline = self._dialler.deadlines.current()
        deadline.is_reused = self._has_spoken and self._line is not None
        if self._line is not None:
            deadline.watch(self._line)
        super().request(*args, **options)  # type: ignore[misc]
        self._has_spoken = True

    def close(self) -> None:
        super().close()  # type: ignore[misc]
        line, self._line = self._line, None
        if line is not None:
            line.let_go()


class _Http(_Watched, HTTPConnection):  # type: ignore[misc]
    pass


class _Https(_Watched, HTTPSConnection):  # type: ignore[misc]
    pass


class _Pools:
    """What both kinds of pool manager do more than urllib3's."""

    dialler: Dialler
    surroundings: Surroundings

    def _new_pool(self, scheme: str, host: str, port: int, request_context: dict[str, Any] | None = None) -> Any:
        pool = super()._new_pool(scheme, host, port, request_context)  # type: ignore[misc]
        pool.ConnectionCls = functools.partial(_Https if scheme == "https" else _Http, dialler=self.dialler)
        if scheme == "https":
            pool.conn_kw["ssl_context"] = self.surroundings.tls
        return pool


class _DirectPools(_Pools, urllib3.PoolManager):
    pass


class _ProxyPools(_Pools, urllib3.ProxyManager):
    pass


class Asked(requests.PreparedRequest):
    """A request whose target was taken apart already: `requests` would do it five times on the way to the socket."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target
        self.url = target.url

    @property
    def path_url(self) -> str:
        return self.target.path


class NoCookies(RequestsCookieJar):
    """A jar that nothing gets into."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Nothing."""


class JudgedAdapter(HTTPAdapter):
    """`requests`' adapter over such pools.

    Args:
        direct: opens connections to hosts, judged; `proxied` opens those to proxies, which the user named.
        num_idle: connections to one host that are kept between exchanges.
    """

    def __init__(self, direct: Dialler, proxied: Dialler, surroundings: Surroundings, num_idle: int) -> None:
        self._direct, self._proxied, self._surroundings = direct, proxied, surroundings
        self._num_idle = num_idle
        super().__init__(pool_connections=_MOST_HOSTS, pool_maxsize=num_idle, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        self.poolmanager = _DirectPools(num_pools=connections, maxsize=maxsize, block=block, **options)
        self.poolmanager.dialler, self.poolmanager.surroundings = self._direct, self._surroundings

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        if proxies:
            return super().get_connection_with_tls_context(request, verify, proxies, cert)
        target = request.target
        return self.poolmanager.connection_from_host(target.host, target.port, target.scheme, _VERIFIED[target.scheme])

    def request_url(self, request: Any, proxies: Any) -> str:
        return super().request_url(request, proxies) if proxies else str(request.path_url)

    def build_response(self, req: Any, resp: Any) -> requests.Response:
        """The answer for whoever reads `raw` and no more."""
        response = requests.Response()
        response.status_code, response.raw, response.reason = resp.status, resp, resp.reason
        response.url, response.request = req.url, req
        return response

    def proxy_manager_for(self, proxy: str, **options: Any) -> urllib3.ProxyManager:
        if proxy not in self.proxy_manager:
            tls = self._surroundings.tls if proxy.startswith("https:") else None
            pools = _ProxyPools(
                proxy,
                num_pools=_MOST_HOSTS,
                maxsize=self._num_idle,
                proxy_headers=self.proxy_headers(proxy),
                proxy_ssl_context=tls,
                **options,
            )
            pools.dialler, pools.surroundings = self._proxied, self._surroundings
            self.proxy_manager[proxy] = pools
        found = self.proxy_manager[proxy]
        assert isinstance(found, urllib3.ProxyManager)
        return found

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing to load here: the context of the pools holds the authorities, and every certificate is checked."""
