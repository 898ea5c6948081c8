"""The client that sources and stages are given: photos with `fetch`, services with `api`.

Every request, whoever makes it, passes the address guard, the host's slots and pace, and the caps. A photo is
asked for once a call, since the frontier remembers attempts; a service call is retried here, since a source has
no memory.
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
from lhq.http.answer import Answer, Headers, OptedOut
from lhq.http.exchange import Exchange, Judge, Request
from lhq.http.guard import Guard, Target, clean, parse
from lhq.http.pace import SERVICE, Host, Hosts, retry_after_s
from lhq.http.robots import MAX_BYTES as ROBOTS_MAX_BYTES
from lhq.http.robots import Robots
from lhq.http.session import through
from lhq.rights.policy import Policy
from lhq.rights.reservations import Evidence, evidence_of_headers

API_MAX_BYTES = 32 * 2**20
API_ATTEMPTS = 3
_HOST_FAILURES = {"connect", "timeout", "disconnected", "tls", "unresolved", "proxy"}
_PHOTOS = "photos"
_REDIRECTS = {301, 302, 303, 307, 308}
# Statuses that asking again can't change; a CDN's 403 may be temporary, so it is tried again a few times.
_PERMANENT = {400, 401, 404, 405, 406, 410, 414, 451}


class Client:
    """Polite and safe HTTP for one run; safe to use from many threads.

    Args:
        settings: `[http]` of the pipeline file.
        policy: `[rights]` of the pipeline file; None: all reservations bind that robots.txt and the answer's own
            headers state, and no further file of the host is asked for.
    """

    def __init__(self, settings: HttpSettings, policy: Policy | None = None) -> None:
        self.settings = settings
        self.user_agent = settings.user_agent + (f" (+{settings.contact})" if settings.contact else "")
        self.guard = Guard(settings.allow_hosts)
        self.hosts = Hosts(num_slots=settings.per_host, pace_per_s=settings.pace_per_s)
        self._exchange = Exchange(self.guard, settings)
        self._robots = Robots(self.user_agent, self._site_file, asks_tdmrep=policy is not None)
        self.policy = policy or Policy()
        self._secrets: set[str] = set(self._exchange.surroundings.secrets())
        self._stopped = threading.Event()

    # --- what a source sets up ----------------------------------------------------------------------------------

    def keep_secret(self, *secrets: str) -> None:
        """Replace these by *** in every error and log line."""
        self._secrets.update(secret for secret in secrets if secret)

    def clean(self, text: object) -> str:
        """Remote or error text fit to be shown: keys hidden, control characters escaped, cut."""
        return clean(text, self._secrets)

    def limit(
        self,
        url: str,
        *,
        num_slots: int | None = None,
        pace_per_s: float | None = None,
        bytes_per_s: float | None = None,
    ) -> None:
        """Apply stricter limits to the photo host of `url`, as its terms ask."""
        self.hosts.limit(parse(url).netloc, num_slots=num_slots, pace_per_s=pace_per_s, bytes_per_s=bytes_per_s)

    def limit_service(self, url: str, *, num_slots: int, pace_per_s: float) -> None:
        """Apply stricter limits to a service, as its terms ask."""
        self.hosts.limit(self.service_of(url).name, num_slots=num_slots, pace_per_s=pace_per_s, bytes_per_s=None)

    def is_exempt(self, url: str) -> bool:
        """Is this host in `[http] allow_hosts`: a test server or an intranet's?"""
        return self.guard.is_exempt(parse(url))

    def session(self) -> requests.Session:
        """A requests session whose every call is an `api` call of this client (for libraries that want one)."""
        return through(self)

    # --- stopping -----------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Start nothing new: whoever waits for a host gets FetchError `stopped`."""
        self._stopped.set()

    def abort(self) -> None:
        """Stop, and end the exchanges under way."""
        self.stop()
        self._exchange.stop()

    def abort_photos(self) -> None:
        """End the photos under way, and let services be asked on: the crawl has what it wanted."""
        self._exchange.stop(_PHOTOS)

    def is_stopped(self) -> bool:
        return self._stopped.is_set()

    def wait(self, seconds: float) -> None:
        """Sleep, but not past a stop."""
        self._stopped.wait(seconds)

    def close(self) -> None:
        self._exchange.close()

    # --- photos -------------------------------------------------------------------------------------------------

    def host_of(self, url: str) -> Host:
        """The host that serves `url`. Raises FetchError `bad-url`."""
        return self.hosts[parse(url).netloc]

    def num_own_throttles(self, url: str) -> int:
        """How often the photo at `url` was throttled while its host served others, or throttled no other."""
        target = parse(url)
        return self.hosts.num_own_throttles(self.hosts[target.netloc], target.url)

    def service_of(self, url: str) -> Host:
        """The service at `url`: it has limits of its own even where it shares a host with photos."""
        return self.hosts[f"{parse(url).netloc}{SERVICE}"]

    def fetch(self, url: str, *, has_slot: bool = False) -> Answer:
        """One photo, one attempt: redirects followed, robots.txt and opt-out headers honoured, caps kept.

        Args:
            has_slot: the caller took a slot of `host_of(url)`; it is given back here in any case.

        Raises:
            FetchError: `reason` as `Exchange.ask`, or `bad-url`, `http-<status>`, `throttled`, `robots`, `opt-out`,
                `redirects`, `stopped`.
        """
        target = parse(url)
        host = self.hosts[target.netloc]
        said = Evidence({})
        for hop in range(self.settings.max_redirects + 1):
            if has_slot and hop == 0:
                try:
                    answer = self._photo(host, target)
                finally:
                    self.hosts.give_back(host)
            else:
                with self.hosts.slot(host, self.is_stopped) as is_mine:
                    if not is_mine:
                        raise _stopped(target)
                    answer = self._photo(host, target)
            said = said.merge_strictest(answer.evidence)
            if answer.status == 200:
                return replace(answer, evidence=said)
            target, before = self._redirected(target, answer), host
            host = self.hosts[target.netloc]
            self.hosts.follow(before, host)
        raise self._too_many_redirects(target)

    def head(self, url: str) -> Answer:
        """What a photo's host says of it now, without its bytes: one attempt, under the same limits as `fetch`.

        Returns:
            an answer of any status but 429 and 5xx; its `url` is where the redirects ended.

        Raises:
            FetchError: as `fetch`, but no status is permanent.
        """
        target = parse(url)
        headers = {"User-Agent": self.user_agent, "Accept": "image/*", "Accept-Encoding": "identity"}
        said = Evidence({})
        for _ in range(self.settings.max_redirects + 1):
            host = self.hosts[target.netloc]
            with self.hosts.slot(host, self.is_stopped) as is_mine:
                if not is_mine:
                    raise _stopped(target)
                said = said.merge_strictest(self._asked(host, target))
                answer = self._ask(host, Request("HEAD", target, headers), max_bytes=0)
            if answer.status == 429 or answer.status >= 500:
                raise self._bad_status(target, answer.status)
            if answer.status not in _REDIRECTS or not answer.headers.get("location"):
                return replace(answer, evidence=said.merge(evidence_of_headers(answer.headers)))
            target = self._redirected(target, answer)
        raise self._too_many_redirects(target)

    def _redirected(self, target: Target, answer: Answer) -> Target:
        step = parse(location(answer.headers), base=target.url)
        if target.scheme == "https" and step.scheme == "http":
            raise self._refuse(target, "redirects from https to http", "redirects", permanent=True)
        return step

    def _too_many_redirects(self, target: Target) -> FetchError:
        return self._refuse(target, f"more than {self.settings.max_redirects} redirects", "redirects", permanent=True)

    def _photo(self, host: Host, target: Target) -> Answer:
        said = self._asked(host, target)
        if said.binding(self.policy.honour):
            raise self._opted_out(target, said)

        def judge(status: int, headers: Headers) -> None:
            if status in _REDIRECTS and headers.get("location"):
                return
            if status != 200:
                raise self._bad_status(target, status)
            if (found := evidence_of_headers(headers)).binding(self.policy.honour):
                raise self._opted_out(target, said.merge(found))

        headers = {"User-Agent": self.user_agent, "Accept": "image/*", "Accept-Encoding": "identity"}
        answer = self._ask(host, Request("GET", target, headers), max_bytes=self.settings.max_bytes, judge=judge)
        # A redirect's own headers speak of the address that it leaves, most often of a page.
        return replace(
            answer, evidence=said if answer.status != 200 else said.merge(evidence_of_headers(answer.headers))
        )

    def _opted_out(self, target: Target, said: Evidence) -> OptedOut:
        what = f"{self.clean(target.url)}: {said.binding(self.policy.honour)}"
        return OptedOut(what, hint="it is not asked for again", evidence=said)

    def _bad_status(self, target: Target, status: int) -> FetchError:
        if status in {429, 503}:
            return self._refuse(target, f"status {status}", "throttled", permanent=False)
        return self._refuse(target, f"status {status}", f"http-{status}", permanent=status in _PERMANENT)

    def _asked(self, host: Host, target: Target) -> Evidence:
        """What the host's files say of a photo, robots.txt obeyed; nothing where `[http] robots` is off."""
        if not self.settings.robots:
            return Evidence({})
        self._obey_robots(host, target)
        return self._robots.evidence(target)

    def _obey_robots(self, host: Host, target: Target) -> None:
        if not self._robots.allows(target):
            raise self._refuse(target, "robots.txt forbids it", "robots", permanent=True)
        delay_s = self._robots.crawl_delay_s(target)
        if delay_s:
            self.hosts.limit(host.name, num_slots=1, pace_per_s=1 / delay_s, bytes_per_s=None)

    def _site_file(self, target: Target) -> bytes | None:
        host = self.hosts[target.netloc]
        headers = {"User-Agent": self.user_agent, "Accept-Encoding": "identity"}
        for _ in range(self.settings.max_redirects + 1):
            answer = self._ask(host, Request("GET", target, headers), max_bytes=ROBOTS_MAX_BYTES)
            if answer.status == 200:
                return bytes(answer.body)
            if 300 <= answer.status < 400 and answer.headers.get("location"):
                target = parse(location(answer.headers), base=target.url)
                continue
            if answer.status == 429 or answer.status >= 500:
                raise self._bad_status(target, answer.status)
            return None
        return None

    # --- services -----------------------------------------------------------------------------------------------

    def api(self, method: str, url: str, *, headers: Headers | None = None, body: bytes | None = None) -> Answer:
        """One call of a service, waited for and retried within its limits; any status but 429 and 5xx is returned.

        Raises:
            SourceError: no usable answer after three attempts; longer patience is the caller's.
            FetchError: `stopped`, if the run is being stopped meanwhile.
        """
        try:
            target = parse(url)
        except FetchError as error:
            raise SourceError(error.message, hint="correct the api setting") from None
        host = self.service_of(url)
        sent = {"User-Agent": self.user_agent, "Accept-Encoding": "gzip", **(headers or {})}
        problem = ""
        num_attempts = min(API_ATTEMPTS, self.settings.max_attempts)
        for attempt in range(num_attempts):
            if attempt and not host.paused_until > time.monotonic():
                self.wait(self.settings.retry_delay_s * attempt * random.uniform(0.5, 1.0))
            with self.hosts.slot(host, self.is_stopped) as is_mine:
                if not is_mine or self.is_stopped():
                    raise _stopped(target)
                try:
                    answer = self._ask(host, Request(method, target, sent, body), max_bytes=API_MAX_BYTES)
                except FetchError as error:
                    if error.permanent or error.reason == "stopped":
                        if error.reason == "stopped":
                            raise
                        raise SourceError(self.clean(error.message), hint=error.hint) from None
                    problem = error.message
                    continue
            if answer.status < 500 and answer.status != 429:
                return answer
            problem = f"status {answer.status}"
        raise SourceError(
            f"{self.clean(target.netloc)}: no usable answer in {num_attempts} attempts ({self.clean(problem)})",
            hint="is the service up? run the same command again to go on",
        )

    def read_json(self, url: str, answer: Answer) -> Any:
        """The parsed body of a service's answer.

        Raises:
            KeyMissing: 401, the key is not accepted.
            SourceError: any other status than 200, or a body that is not JSON.
        """
        if answer.status != 200:
            raise self.refusal(url, answer)
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            raise SourceError(
                f"{self.clean(url)}: the answer is not JSON ({self.clean(error)})",
                hint="the service may be in trouble; run the same command again later",
            ) from None

    def refusal(self, url: str, answer: Answer) -> SourceError | KeyMissing:
        """The error that a service's status other than 200 stands for."""
        said = self.clean(bytes(answer.body[:200]).decode("utf-8", "replace"))
        if answer.status == 401:
            return KeyMissing(f"{self.clean(url)}: the key is not accepted (401 {said})", hint="check the API key")
        return SourceError(f"{self.clean(url)}: status {answer.status} ({said})", hint="see the service's own pages")

    # --- one exchange, and what it teaches about the host -------------------------------------------------------

    def _ask(self, host: Host, request: Request, *, max_bytes: int, judge: Judge | None = None) -> Answer:
        began = time.monotonic()
        seen: list[tuple[int, Headers]] = []

        def look(status: int, found: Headers) -> None:
            seen.append((status, found))
            if judge is not None:
                judge(status, found)

        size = 0
        try:
            group = "" if host.name.endswith(SERVICE) else _PHOTOS
            answer = self._exchange.ask(request, max_bytes=max_bytes, judge=look, group=group)
            size = len(answer.body)
            return answer
        except FetchError as error:
            if error.reason in _HOST_FAILURES:
                self.hosts.failed(host)
                seen.clear()
            raise
        finally:
            if seen:
                status, found = seen[-1]
                if status in {429, 503}:
                    page = "" if host.name.endswith(SERVICE) else request.target.url
                    self.hosts.throttled(host, began, retry_after_s(found), status, page)
                elif status >= 500:
                    self.hosts.failed(host)
                else:
                    self.hosts.succeeded(host, size)

    def _refuse(self, target: Target, what: str, reason: str, *, permanent: bool) -> FetchError:
        hint = "it is not asked for again" if permanent else "it is tried again later"
        return FetchError(f"{self.clean(target.url)}: {what}", hint=hint, reason=reason, permanent=permanent)


def _stopped(target: Target) -> FetchError:
    return FetchError(f"{target.netloc}: stopped", hint="run again to go on", reason="stopped", permanent=False)


def location(headers: Headers) -> str:
    """Where a redirect points, as it was meant: headers are read as Latin-1, and servers write raw UTF-8 into them."""
    said = headers.get("location", "").strip()
    try:
        return said.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return said
