"""One request → one answer, through a `requests` session: kept-alive connections, and caps on bytes, time and memory.

The session moves the bytes; what is added here holds whatever the server does: no connection but to a judged address
(`adapter`), an end to every phase (`deadline`), a body that is whole, decoded and under its cap (`body`). Nothing is
followed, stored or sent that the caller did not ask for: no redirects, no cookies, no logins from a `.netrc`.
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
from lhq.http.adapter import Address, Asked, Dialler, JudgedAdapter, NoCookies, within
from lhq.http.answer import Answer, Headers, failure
from lhq.http.body import Budget, decode, read
from lhq.http.deadline import Deadline, Deadlines
from lhq.http.guard import Guard, Target, clean, resolve
from lhq.http.surroundings import Surroundings

MEMORY_CAP = 64 * 2**20
# A refused answer's body is read to its end if it is short, so that the connection can be used again.
_SHORT_BYTES = 16 * 1024

Judge = Callable[[int, Headers], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent: nothing is added to it but the length of a body."""

    method: str
    target: Target
    headers: Headers
    body: bytes | None = None


class _Session(requests.Session):
    """A session that never looks where an answer points: the client judges every hop itself."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


class Exchange:
    """Exchanges with any host; safe to use from many threads.

    Raises:
        ConfigError: the certificate authorities or proxies of `settings` and environment can't be used.
    """

    def __init__(self, guard: Guard, settings: HttpSettings) -> None:
        self.guard, self.settings = guard, settings
        self.surroundings = Surroundings(settings.ca_bundle)
        self.budget = Budget(MEMORY_CAP)
        self._deadlines = Deadlines()
        self._timeout = urllib3.Timeout(connect=settings.connect_timeout_s, read=settings.read_timeout_s)
        self._session = _Session()
        self._session.trust_env = False
        self._session.cookies = NoCookies()
        adapter = JudgedAdapter(
            Dialler(self._deadlines, self._judged, settings.connect_timeout_s),
            Dialler(self._deadlines, resolve, settings.connect_timeout_s),
            self.surroundings,
            num_idle=settings.per_host + 2,
        )
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def ask(self, request: Request, *, max_bytes: int, judge: Judge | None = None, group: str = "") -> Answer:
        """Ask once, no redirects followed.

        Args:
            judge: sees status and headers before the body is read, and raises to refuse it.
            group: what `stop` may end by name.

        Raises:
            FetchError: `connect`, `unresolved`, `forbidden-address`, `proxy`, `tls`, `timeout`, `disconnected`,
                `truncated`, `too-large`, `bad-answer`, `stopped`, or what `judge` raises.
        """
        target = request.target
        with self._deadlines.limit(self.settings.total_timeout_s, group) as deadline:
            try:
                proxies = dict(self.surroundings.proxies_of(target))
                if proxies:
                    within(deadline, lambda: self.guard.judge_behind_proxy(target), f"{target.host}: looking it up")
                while True:
                    try:
                        response = self._session.send(
                            _prepared(request),
                            stream=True,
                            allow_redirects=False,
                            timeout=self._timeout,  # type: ignore[arg-type]
                            proxies=proxies,
                        )
                        break
                    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                        # Kept alive, and closed by the server before it saw the request: another connection.
                        if deadline.cut or not deadline.is_reused or not _is_hang_up(error):
                            raise
                with _closing(response.raw):
                    answer = self._answer(response.raw, target, max_bytes, judge)
                if deadline.cut:  # an answer without a length looks whole when its connection is shut
                    raise TimeoutError
                return answer
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                raise self._failure(error, target, deadline) from error
            except FetchError as error:
                if deadline.cut and error.reason in {"truncated", "connect", "timeout", "bad-answer"}:
                    raise self._failure(error, target, deadline) from error
                raise

    def stop(self, group: str = "") -> None:
        """End every exchange under way and every later one: those of `group`, or all."""
        self._deadlines.stop(group)

    def close(self) -> None:
        self._session.close()
        self._deadlines.close()

    def _judged(self, host: str, port: int) -> list[Address]:
        return self.guard.addresses(Target("http", host, port, "/"))

    def _answer(self, raw: urllib3.BaseHTTPResponse, target: Target, max_bytes: int, judge: Judge | None) -> Answer:
        found = {name.lower(): value for name, value in raw.headers.itermerged()}
        if judge is not None:
            judge(raw.status, found)
        if 300 <= raw.status < 400:
            return Answer(target.url, raw.status, found, b"")
        sent_as = found.get("transfer-encoding", "chunked").strip().lower()
        if sent_as not in {"chunked", "identity", ""}:
            raise failure(target, f"transfer encoding {clean(sent_as)!r}", "bad-answer")
        held: list[int] = []
        try:
            data = read(raw, target, max_bytes, lambda size: held.append(self.budget.take(size)))
        finally:
            for size in held:
                self.budget.give_back(size)
        codings = found.get("content-encoding", "")
        decoded = decode(data, codings, target, max_bytes) if codings and data else data
        return Answer(target.url, raw.status, found, decoded)

    def _failure(self, error: Exception, target: Target, deadline: Deadline) -> FetchError:
        """What went wrong in words of ours: the deadline first, then the innermost cause that says something."""
        if deadline.cut == "stopped":
            return failure(target, "stopped", "stopped")
        if deadline.cut:
            return failure(target, f"not done after {self.settings.total_timeout_s:g} s", "timeout")
        causes = list(_causes(error))
        for cause in reversed(causes):
            if isinstance(cause, FetchError):
                return cause
        for kinds, reason, what in _REASONS:
            for cause in reversed(causes):
                if isinstance(cause, kinds):
                    said = what.format(clean(cause, limit=120), silent_s=f"{self.settings.read_timeout_s:g}")
                    return failure(target, said, reason)
        return failure(target, f"not HTTP ({type(causes[-1]).__name__}: {clean(causes[-1], limit=80)})", "bad-answer")


# Looked through in this order, on every cause: the first kind that fits gives the reason and the words.
_REASONS: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    ((urllib3.exceptions.ProxyError, requests.exceptions.ProxyError), "proxy", "the proxy refuses ({})"),
    ((ssl.SSLEOFError, ssl.SSLZeroReturnError), "disconnected", "connection lost ({})"),
    ((ssl.SSLError, ssl.CertificateError, urllib3.exceptions.SSLError), "tls", "TLS: {}"),
    ((urllib3.exceptions.TimeoutError, requests.Timeout, TimeoutError), "timeout", "silent for {silent_s} s"),
    ((http.client.IncompleteRead,), "truncated", "the answer broke off"),
    ((http.client.RemoteDisconnected, OSError), "disconnected", "connection lost ({})"),
)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was made of, outermost first. Those of `requests` are OSErrors by birth and say nothing."""
    seen: list[BaseException] = []
    todo = [error]
    while todo:
        each = todo.pop(0)
        if any(each is one for one in seen):
            continue
        seen.append(each)
        if not isinstance(each, requests.RequestException) or isinstance(
            each, (requests.Timeout, requests.exceptions.ProxyError)
        ):
            yield each
        parts = [*each.args, getattr(each, "reason", None), each.__cause__]
        todo += [part for part in parts if isinstance(part, BaseException)]


def _is_hang_up(error: BaseException) -> bool:
    return any(isinstance(cause, (ConnectionResetError, BrokenPipeError)) for cause in _causes(error))


def _prepared(request: Request) -> requests.PreparedRequest:
    """The request exactly as it is meant: the target is canonical already, and nothing is added to the headers."""
    prepared = Asked(request.target)
    prepared.method, prepared.body = request.method, request.body
    prepared.headers = CaseInsensitiveDict(request.headers)
    if request.body is not None:
        prepared.headers["Content-Length"] = str(len(request.body))
    return prepared


@contextlib.contextmanager
def _closing(raw: urllib3.BaseHTTPResponse) -> Iterator[None]:
    """Leave the connection ready for its next use where that is cheap, closed where it is not."""
    try:
        yield
    finally:
        length = getattr(raw, "length_remaining", None)
        try:
            if length is not None and length <= _SHORT_BYTES and not raw.closed:
                raw.drain_conn()
        except (urllib3.exceptions.HTTPError, OSError):
            pass
        raw.close()
        raw.release_conn()
