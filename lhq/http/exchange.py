"""One request → one response through a `requests` session, with keep-alive and limits on bytes, time and memory.

Whatever the server does, connections go to checked addresses only (`adapter`), every phase ends (`deadline`), and a
body is complete, decoded and within its limit (`body`). Nothing happens that the caller didn't ask for: no redirects,
no cookies, no logins from a `.netrc`.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import requests
import urllib3
from requests.structures import CaseInsensitiveDict

from lhq.config import HttpSettings
from lhq.errors import FetchError
from lhq.http.adapter import Address, Dialler, GuardedAdapter, NoCookies, PreparsedRequest, run_with_deadline
from lhq.http.body import Budget, decode_body, read_body
from lhq.http.deadline import Deadline, Deadlines
from lhq.http.environment import NetworkEnvironment
from lhq.http.guard import Guard, Target, clean, resolve
from lhq.http.response import Headers, Response, failure

MEMORY_BUDGET_BYTES = 64 * 2**20
# The unread rest of a body is drained if it is this short, so that the connection can be reused.
_MAX_DRAIN_BYTES = 16 * 1024

OnHeaders = Callable[[int, Headers], None]


@dataclass(frozen=True, slots=True)
class Request:
    """A request, sent as it is; only the length of a body is added."""

    method: str
    target: Target
    headers: Headers
    body: bytes | None = None


class _Session(requests.Session):
    """A session that doesn't follow redirects: the client checks every hop itself."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


class Exchange:
    """Sends requests to any host; safe to use from many threads.

    Raises:
        ConfigError: the certificate authorities or proxies of `settings` or the environment are unusable.
    """

    def __init__(self, guard: Guard, settings: HttpSettings) -> None:
        self.guard, self.settings = guard, settings
        self.environment = NetworkEnvironment(settings.ca_bundle)
        self.budget = Budget(MEMORY_BUDGET_BYTES)
        self._deadlines = Deadlines()
        self._timeout = urllib3.Timeout(connect=settings.connect_timeout_s, read=settings.read_timeout_s)
        self._session = _Session()
        self._session.trust_env = False
        self._session.cookies = NoCookies()
        adapter = GuardedAdapter(
            Dialler(self._deadlines, self._allowed_addresses, settings.connect_timeout_s),
            Dialler(self._deadlines, resolve, settings.connect_timeout_s),
            self.environment,
            num_idle=settings.per_host + 2,
        )
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def send(
        self, request: Request, *, max_bytes: int, on_headers: OnHeaders | None = None, group: str = ""
    ) -> Response:
        """Send a request once, without following redirects.

        Args:
            on_headers: called with status and headers before the body is read; raises to refuse it.
            group: for `stop`.

        Raises:
            FetchError: `connect`, `unresolved`, `forbidden-address`, `proxy`, `tls`, `timeout`, `disconnected`,
                `truncated`, `too-large`, `bad-answer`, `stopped`, or what `on_headers` raises.
        """
        target = request.target
        with self._deadlines.limit(self.settings.total_timeout_s, group) as deadline:
            try:
                proxies = dict(self.environment.proxies_for(target))
                if proxies:
                    run_with_deadline(
                        deadline, lambda: self.guard.check_behind_proxy(target), f"{target.host}: looking it up"
                    )
                while True:
                    try:
                        raw = self._session.send(
                            _prepare(request),
                            stream=True,
                            allow_redirects=False,
                            timeout=self._timeout,  # type: ignore[arg-type]
                            proxies=proxies,
                        ).raw
                        break
                    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                        # The server closed an idle connection before it got the request: use another connection.
                        if deadline.ended_by or not deadline.is_reused or not _is_connection_reset(error):
                            raise
                with _closing(raw):
                    response = self._read_response(raw, target, max_bytes, on_headers)
                if deadline.ended_by:  # a response without a length looks complete once its connection is shut down
                    raise TimeoutError
                return response
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                raise self._translate_error(error, target, deadline) from error
            except FetchError as error:
                if deadline.ended_by and error.reason in {"truncated", "connect", "timeout", "bad-answer"}:
                    raise self._translate_error(error, target, deadline) from error
                raise

    def stop(self, group: str = "") -> None:
        """Abort requests in flight and refuse later ones: those of `group`, or all."""
        self._deadlines.stop(group)

    def close(self) -> None:
        self._session.close()
        self._deadlines.close()

    def _allowed_addresses(self, host: str, port: int) -> list[Address]:
        return self.guard.addresses(Target("http", host, port, "/"))

    def _read_response(
        self, raw: urllib3.BaseHTTPResponse, target: Target, max_bytes: int, on_headers: OnHeaders | None
    ) -> Response:
        headers = {name.lower(): value for name, value in raw.headers.itermerged()}
        if locations := raw.headers.getlist("location"):
            headers["location"] = locations[0]  # a repeated one is no list
        if on_headers is not None:
            on_headers(raw.status, headers)
        if 300 <= raw.status < 400:
            return Response(target.url, raw.status, headers, b"")
        transfer_encoding = headers.get("transfer-encoding", "chunked").strip().lower()
        if transfer_encoding not in {"chunked", "identity", ""}:
            raise failure(target, f"transfer encoding {clean(transfer_encoding)!r}", "bad-answer")
        reserved: list[int] = []
        try:
            data = read_body(raw, target, max_bytes, lambda size: reserved.append(self.budget.acquire(size)))
        finally:
            for size in reserved:
                self.budget.release(size)
        codings = headers.get("content-encoding", "")
        decoded = decode_body(data, codings, target, max_bytes) if codings and data else data
        return Response(target.url, raw.status, headers, decoded)

    def _translate_error(self, error: Exception, target: Target, deadline: Deadline) -> FetchError:
        """Translate an error: the deadline first, then the innermost cause of a known type."""
        if deadline.ended_by == "stopped":
            return failure(target, "stopped", "stopped")
        if deadline.ended_by:
            return failure(target, f"not done after {self.settings.total_timeout_s:g} s", "timeout")
        causes = list(_causes(error))
        for cause in reversed(causes):
            if isinstance(cause, FetchError):
                return cause
        for types, reason, template in _REASONS:
            for cause in reversed(causes):
                if isinstance(cause, types):
                    variables = template.format(clean(cause, limit=120), silent_s=f"{self.settings.read_timeout_s:g}")
                    return failure(target, variables, reason)
        return failure(target, f"not HTTP ({type(causes[-1]).__name__}: {clean(causes[-1], limit=80)})", "bad-answer")


# (types, reason, message), in order of precedence; each is compared with every cause.
_REASONS: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    ((urllib3.exceptions.ProxyError, requests.exceptions.ProxyError), "proxy", "the proxy refuses ({})"),
    ((ssl.SSLEOFError, ssl.SSLZeroReturnError), "disconnected", "connection lost ({})"),
    ((ssl.SSLError, ssl.CertificateError, urllib3.exceptions.SSLError), "tls", "TLS: {}"),
    ((urllib3.exceptions.TimeoutError, requests.Timeout, TimeoutError), "timeout", "silent for {silent_s} s"),
    ((http.client.IncompleteRead,), "truncated", "the answer broke off"),
    ((http.client.RemoteDisconnected, OSError), "disconnected", "connection lost ({})"),
)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes, outermost first; skips `requests`' own, which are OSErrors and say nothing."""
    seen: list[BaseException] = []
    queue = [error]
    while queue:
        each = queue.pop(0)
        if any(each is one for one in seen):
            continue
        seen.append(each)
        if not isinstance(each, requests.RequestException) or isinstance(
            each, (requests.Timeout, requests.exceptions.ProxyError)
        ):
            yield each
        parts = [*each.args, getattr(each, "reason", None), each.__cause__]
        queue += [part for part in parts if isinstance(part, BaseException)]


def _is_connection_reset(error: BaseException) -> bool:
    return any(isinstance(cause, (ConnectionResetError, BrokenPipeError)) for cause in _causes(error))


def _prepare(request: Request) -> requests.PreparedRequest:
    """Prepare the request without `requests`' changes: the URL is canonical, and no headers are added."""
    prepared = PreparsedRequest(request.target)
    prepared.method, prepared.body = request.method, request.body
    prepared.headers = CaseInsensitiveDict(request.headers)
    if request.body is not None:
        prepared.headers["Content-Length"] = str(len(request.body))
    return prepared


@contextlib.contextmanager
def _closing(raw: urllib3.BaseHTTPResponse) -> Iterator[None]:
    """Return the connection to its pool if little of the body is unread, else close it."""
    try:
        yield
    finally:
        length = getattr(raw, "length_remaining", None)
        try:
            if length is not None and length <= _MAX_DRAIN_BYTES and not raw.closed:
                raw.drain_conn()
        except (urllib3.exceptions.HTTPError, OSError):
            pass
        raw.close()
        raw.release_conn()
