"""The HTTP client of sources and stages: `fetch` for photos, `api` for services.

Every request passes the address guard, its host's slots and pace, and the limits on size and time. `fetch` makes one
attempt, since the frontier counts attempts; `api` retries, since sources keep no state.
"""

from __future__ import annotations

import json
import random
import threading
import time
from dataclasses import replace
from typing import Any

import requests

from lhq.config import HttpSettings
from lhq.errors import FetchError, KeyMissing, SourceError
from lhq.http.exchange import Exchange, OnHeaders, Request
from lhq.http.guard import Guard, Target, clean, parse
from lhq.http.pace import SERVICE, Host, Hosts, retry_after_s
from lhq.http.response import Headers, OptedOut, Response
from lhq.http.robots import MAX_BYTES as ROBOTS_MAX_BYTES
from lhq.http.robots import Robots
from lhq.http.session import session_through
from lhq.rights.policy import Policy
from lhq.rights.reservations import Evidence, evidence_of_headers

API_MAX_BYTES = 32 * 2**20
API_ATTEMPTS = 3
_HOST_FAILURES = {"connect", "timeout", "disconnected", "tls", "unresolved", "proxy"}
_PHOTOS = "photos"
_REDIRECTS = {301, 302, 303, 307, 308}
# Statuses that aren't retried; a CDN's 403 may be temporary, so it isn't among them.
_PERMANENT = {400, 401, 404, 405, 406, 410, 414, 451}


class Client:
    """Polite and safe HTTP for one run; safe to use from many threads.

    Args:
        settings: `[http]` of the pipeline file.
        policy: `[rights]` of the pipeline file; None: honour the reservations in robots.txt and response headers, and
            fetch no other file of the host.
    """

    def __init__(self, settings: HttpSettings, policy: Policy | None = None) -> None:
        self.settings = settings
        self.user_agent = settings.user_agent + (f" (+{settings.contact})" if settings.contact else "")
        self.guard = Guard(settings.allow_hosts)
        self.hosts = Hosts(num_slots=settings.per_host, pace_per_s=settings.pace_per_s)
        self._exchange = Exchange(self.guard, settings)
        self._robots = Robots(self.user_agent, self._fetch_host_file, fetches_tdmrep=policy is not None)
        self.policy = policy or Policy()
        self._secrets: set[str] = set(self._exchange.environment.secrets())
        self._stopped = threading.Event()

    # --- set-up by sources --------------------------------------------------------------------------------------

    def keep_secret(self, *secrets: str) -> None:
        """Replace these by *** in every error and log line."""
        self._secrets.update(secret for secret in secrets if secret)

    def clean(self, text: object) -> str:
        """Sanitise remote or error text for display: hide secrets, escape control characters, cut."""
        return clean(text, self._secrets)

    def limit(
        self,
        url: str,
        *,
        num_slots: int | None = None,
        pace_per_s: float | None = None,
        bytes_per_s: float | None = None,
    ) -> None:
        """Apply stricter limits to the photo host of `url`, as its terms require."""
        self.hosts.limit(parse(url).netloc, num_slots=num_slots, pace_per_s=pace_per_s, bytes_per_s=bytes_per_s)

    def limit_service(self, url: str, *, num_slots: int, pace_per_s: float) -> None:
        """Apply stricter limits to a service, as its terms require."""
        self.hosts.limit(self.service_of(url).name, num_slots=num_slots, pace_per_s=pace_per_s, bytes_per_s=None)

    def is_exempt(self, url: str) -> bool:
        """Whether the URL's host is in `[http] allow_hosts` (a test server, an intranet)."""
        return self.guard.is_exempt(parse(url))

    def session(self) -> requests.Session:
        """A `requests` session whose every request is an `api` call of this client, for libraries that need one."""
        return session_through(self)

    # --- stopping -----------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Start no new request: callers that wait for a host get FetchError `stopped`."""
        self._stopped.set()

    def abort(self) -> None:
        """Stop, and abort the requests in flight."""
        self.stop()
        self._exchange.stop()

    def abort_photos(self) -> None:
        """Abort photos in flight, but not service calls: for a crawl that has enough photos."""
        self._exchange.stop(_PHOTOS)

    def is_stopped(self) -> bool:
        return self._stopped.is_set()

    def wait(self, seconds: float) -> None:
        """Sleep until the time is over or the client is stopped."""
        self._stopped.wait(seconds)

    def close(self) -> None:
        self._exchange.close()

    # --- photos -------------------------------------------------------------------------------------------------

    def host_of(self, url: str) -> Host:
        """The host of `url`. Raises FetchError `bad-url`."""
        return self.hosts[parse(url).netloc]

    def num_page_throttles(self, url: str) -> int:
        """How often `url` was throttled by itself: while its host served others, or throttled no other URL."""
        target = parse(url)
        return self.hosts.num_page_throttles(self.hosts[target.netloc], target.url)

    def service_of(self, url: str) -> Host:
        """The service at `url`; its limits are separate from those of photos on the same host."""
        return self.hosts[f"{parse(url).netloc}{SERVICE}"]

    def fetch(self, url: str, *, has_slot: bool = False) -> Response:
        """Fetch a photo in one attempt, following redirects, obeying robots.txt and opt-out headers.

        Args:
            has_slot: the caller holds a slot of `host_of(url)`; it is released here in any case.

        Raises:
            FetchError: `reason` as `Exchange.send`, or `bad-url`, `http-<status>`, `throttled`, `robots`, `opt-out`,
                `redirects`, `stopped`.
        """
        target = parse(url)
        host = self.hosts[target.netloc]
        evidence = Evidence({})
        for hop in range(self.settings.max_redirects + 1):
            if has_slot and hop == 0:
                try:
                    response = self._fetch_once(host, target)
                finally:
                    self.hosts.release(host)
            else:
                with self.hosts.slot(host, self.is_stopped) as acquired:
                    if not acquired:
                        raise _stopped(target)
                    response = self._fetch_once(host, target)
            evidence = evidence.merge_strictest(response.evidence)
            if response.status == 200:
                return replace(response, evidence=evidence)
            target, previous = self._redirect_target(target, response), host
            host = self.hosts[target.netloc]
            self.hosts.inherit_limits(previous, host)
        raise self._too_many_redirects(target)

    def head(self, url: str) -> Response:
        """Request a photo's headers in one attempt, under the same rules as `fetch`.

        Returns:
            a response of any status but 429 and 5xx; its `url` is where the redirects ended.

        Raises:
            FetchError: as `fetch`, but no status is permanent.
        """
        target = parse(url)
        headers = {"User-Agent": self.user_agent, "Accept": "image/*", "Accept-Encoding": "identity"}
        evidence = Evidence({})
        for _ in range(self.settings.max_redirects + 1):
            host = self.hosts[target.netloc]
            with self.hosts.slot(host, self.is_stopped) as acquired:
                if not acquired:
                    raise _stopped(target)
                evidence = evidence.merge_strictest(self._host_evidence(host, target))
                response = self._send(host, Request("HEAD", target, headers), max_bytes=0)
            if response.status == 429 or response.status >= 500:
                raise self._bad_status(target, response.status)
            if response.status not in _REDIRECTS or not response.headers.get("location"):
                return replace(response, evidence=evidence.merge(evidence_of_headers(response.headers)))
            target = self._redirect_target(target, response)
        raise self._too_many_redirects(target)

    def _redirect_target(self, target: Target, response: Response) -> Target:
        redirect_target = parse(redirect_location(response.headers), base=target.url)
        if target.scheme == "https" and redirect_target.scheme == "http":
            raise self._error(target, "redirects from https to http", "redirects", permanent=True)
        return redirect_target

    def _too_many_redirects(self, target: Target) -> FetchError:
        return self._error(target, f"more than {self.settings.max_redirects} redirects", "redirects", permanent=True)

    def _fetch_once(self, host: Host, target: Target) -> Response:
        evidence = self._host_evidence(host, target)
        if evidence.binding(self.policy.honour):
            raise self._opted_out(target, evidence)

        def on_headers(status: int, headers: Headers) -> None:
            if status in _REDIRECTS and headers.get("location"):
                return
            if status != 200:
                raise self._bad_status(target, status)
            if (response_headers := evidence_of_headers(headers)).binding(self.policy.honour):
                raise self._opted_out(target, evidence.merge(response_headers))

        headers = {"User-Agent": self.user_agent, "Accept": "image/*", "Accept-Encoding": "identity"}
        response = self._send(
            host, Request("GET", target, headers), max_bytes=self.settings.max_bytes, on_headers=on_headers
        )
        # A redirect's headers are about the URL that redirects, usually a page, not the photo.
        return replace(
            response,
            evidence=evidence if response.status != 200 else evidence.merge(evidence_of_headers(response.headers)),
        )

    def _opted_out(self, target: Target, evidence: Evidence) -> OptedOut:
        problem = f"{self.clean(target.url)}: {evidence.binding(self.policy.honour)}"
        return OptedOut(problem, hint="it is not asked for again", evidence=evidence)

    def _bad_status(self, target: Target, status: int) -> FetchError:
        if status in {429, 503}:
            return self._error(target, f"status {status}", "throttled", permanent=False)
        return self._error(target, f"status {status}", f"http-{status}", permanent=status in _PERMANENT)

    def _host_evidence(self, host: Host, target: Target) -> Evidence:
        """Obey robots.txt, and return what the host's files state about a photo; empty if `[http] robots` is off."""
        if not self.settings.robots:
            return Evidence({})
        self._obey_robots(host, target)
        return self._robots.evidence(target)

    def _obey_robots(self, host: Host, target: Target) -> None:
        if not self._robots.allows(target):
            raise self._error(target, "robots.txt forbids it", "robots", permanent=True)
        delay_s = self._robots.crawl_delay_s(target)
        if delay_s:
            self.hosts.limit(host.name, num_slots=1, pace_per_s=1 / delay_s, bytes_per_s=None)

    def _fetch_host_file(self, target: Target) -> bytes | None:
        host = self.hosts[target.netloc]
        headers = {"User-Agent": self.user_agent, "Accept-Encoding": "identity"}
        for _ in range(self.settings.max_redirects + 1):
            response = self._send(host, Request("GET", target, headers), max_bytes=ROBOTS_MAX_BYTES)
            if response.status == 200:
                return bytes(response.body)
            if 300 <= response.status < 400 and response.headers.get("location"):
                target = parse(redirect_location(response.headers), base=target.url)
                continue
            if response.status == 429 or response.status >= 500:
                raise self._bad_status(target, response.status)
            return None
        return None

    # --- services -----------------------------------------------------------------------------------------------

    def api(self, method: str, url: str, *, headers: Headers | None = None, body: bytes | None = None) -> Response:
        """Call a service, waiting for its limits and retrying; returns a response of any status but 429 and 5xx.

        Raises:
            SourceError: no usable response after three attempts; callers may retry later.
            FetchError: `stopped`, if the client is stopped meanwhile.
        """
        try:
            target = parse(url)
        except FetchError as error:
            raise SourceError(error.message, hint="correct the api setting") from None
        host = self.service_of(url)
        all_headers = {"User-Agent": self.user_agent, "Accept-Encoding": "gzip", **(headers or {})}
        problem = ""
        num_attempts = min(API_ATTEMPTS, self.settings.max_attempts)
        for attempt in range(num_attempts):
            if attempt and not host.paused_until > time.monotonic():
                self.wait(self.settings.retry_delay_s * attempt * random.uniform(0.5, 1.0))
            with self.hosts.slot(host, self.is_stopped) as acquired:
                if not acquired or self.is_stopped():
                    raise _stopped(target)
                try:
                    response = self._send(host, Request(method, target, all_headers, body), max_bytes=API_MAX_BYTES)
                except FetchError as error:
                    if error.permanent or error.reason == "stopped":
                        if error.reason == "stopped":
                            raise
                        raise SourceError(self.clean(error.message), hint=error.hint) from None
                    problem = error.message
                    continue
            if response.status < 500 and response.status != 429:
                return response
            problem = f"status {response.status}"
        raise SourceError(
            f"{self.clean(target.netloc)}: no usable answer in {num_attempts} attempts ({self.clean(problem)})",
            hint="is the service up? run the same command again to go on",
        )

    def read_json(self, url: str, response: Response) -> Any:
        """Parse the JSON body of a service's response.

        Raises:
            KeyMissing: 401, the key is not accepted.
            SourceError: any other status but 200, or the body is not JSON.
        """
        if response.status != 200:
            raise self.status_error(url, response)
        try:
            return json.loads(response.body)
        except (ValueError, RecursionError) as error:
            raise SourceError(
                f"{self.clean(url)}: the answer is not JSON ({self.clean(error)})",
                hint="the service may be in trouble; run the same command again later",
            ) from None

    def status_error(self, url: str, response: Response) -> SourceError | KeyMissing:
        """The error for a service's response whose status isn't 200."""
        evidence = self.clean(bytes(response.body[:200]).decode("utf-8", "replace"))
        if response.status == 401:
            return KeyMissing(f"{self.clean(url)}: the key is not accepted (401 {evidence})", hint="check the API key")
        return SourceError(
            f"{self.clean(url)}: status {response.status} ({evidence})", hint="see the service's own pages"
        )

    # --- one request, and its effect on the host's state --------------------------------------------------------

    def _send(self, host: Host, request: Request, *, max_bytes: int, on_headers: OnHeaders | None = None) -> Response:
        started = time.monotonic()
        seen: list[tuple[int, Headers]] = []

        def record(status: int, response_headers: Headers) -> None:
            seen.append((status, response_headers))
            if on_headers is not None:
                on_headers(status, response_headers)

        size = 0
        try:
            group = "" if host.name.endswith(SERVICE) else _PHOTOS
            response = self._exchange.send(request, max_bytes=max_bytes, on_headers=record, group=group)
            size = len(response.body)
            return response
        except FetchError as error:
            if error.reason in _HOST_FAILURES:
                self.hosts.failed(host)
                seen.clear()
            raise
        finally:
            if seen:
                status, response_headers = seen[-1]
                if status in {429, 503}:
                    page = "" if host.name.endswith(SERVICE) else request.target.url
                    self.hosts.throttled(host, started, retry_after_s(response_headers), status, page)
                elif status >= 500:
                    self.hosts.failed(host)
                else:
                    self.hosts.succeeded(host, size)

    def _error(self, target: Target, problem: str, reason: str, *, permanent: bool) -> FetchError:
        hint = "it is not asked for again" if permanent else "it is tried again later"
        return FetchError(f"{self.clean(target.url)}: {problem}", hint=hint, reason=reason, permanent=permanent)


def _stopped(target: Target) -> FetchError:
    return FetchError(f"{target.netloc}: stopped", hint="run again to go on", reason="stopped", permanent=False)


def redirect_location(headers: Headers) -> str:
    """A redirect's Location. Headers are decoded as Latin-1, but many servers send raw UTF-8."""
    evidence = headers.get("location", "").strip()
    try:
        return evidence.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return evidence
