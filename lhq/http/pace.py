"""Politeness per host: slots, pace, pauses and a circuit breaker, shared by all threads.

The pace halves on 429 and 503, and recovers by 5 % per second of success. After eight failures in a row a host is
paused for half a minute, then probed by one request; each failed probe doubles the pause, up to ten minutes.

Some URLs are always throttled, at any request rate. A URL that is throttled again is taken for one of those if the host
has served others since, or has throttled no other; then the host's pace stays as it is.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime

BREAKER_FAILURES = 8
BREAKER_WAIT_S = 30.0
BREAKER_MAX_WAIT_S = 600.0
MIN_PACE_PER_S = 1 / 60
THROTTLE_MAX_WAIT_S = 60.0
RETRY_AFTER_MAX_S = 24 * 3600.0
_SECONDS = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,9})?")
# Limits that a site sets for robots on all hosts of its domain: (connections at once, bytes per second).
# Source: wikitech.wikimedia.org/wiki/Robot_policy.
SITE_LIMITS: dict[str, tuple[int, float]] = {"wikimedia.org": (2, 25e6 / 8)}
SERVICE = " (API)"
"""Suffix of a service's name; services have limits of their own."""
# A URL throttled this often no longer counts as evidence of the host's load.
SUSPECT_AFTER = 4
MAX_TRACKED_PAGES = 10_000


@dataclass(slots=True)
class PageThrottles:
    """The throttles of one URL.

    `num` counts all of them, `num_page_caused` those that the URL itself causes. `served` and `load_throttles` are the
    host's `num_served` and `num_load_throttles` at the last throttle.
    """

    num: int = 0
    num_page_caused: int = 0
    served: int = 0
    load_throttles: int = 0


@dataclass(slots=True)
class Host:
    """One host's limits and present state; every field is guarded by `Hosts.lock`.

    `pace_per_s` is the present pace, `full_pace_per_s` the pace it recovers to. Times are of the monotonic clock.
    """

    name: str
    num_slots: int
    full_pace_per_s: float
    pace_per_s: float
    bytes_per_s: float | None = None
    num_busy: int = 0
    free_at: float = 0.0
    paused_until: float = 0.0
    pause_reason: str = ""
    num_throttled: int = 0
    num_failures: int = 0
    num_probes: int = 0
    slowed_at: float = 0.0
    recovered_at: float = 0.0
    num_served: int = 0
    num_load_throttles: int = 0
    pages: dict[str, PageThrottles] = field(default_factory=dict)

    def wait_s(self, now: float) -> float:
        """Seconds until the next request may start; infinite if all slots are taken."""
        if self.paused_until > now:
            return self.paused_until - now
        probing = self.num_failures >= BREAKER_FAILURES
        if self.num_busy >= (1 if probing else self.num_slots):
            return float("inf")
        return max(0.0, self.free_at - now)

    def is_slowed(self) -> bool:
        return self.pace_per_s < 0.99 * self.full_pace_per_s


class Hosts:
    """The state of all hosts, and waiting for their slots."""

    def __init__(self, *, num_slots: int, pace_per_s: float) -> None:
        self._num_slots, self._pace_per_s = num_slots, pace_per_s
        self._hosts: dict[str, Host] = {}
        self.lock = threading.Condition()

    def __getitem__(self, name: str) -> Host:
        with self.lock:
            host = self._hosts.get(name)
            if host is None:
                host = Host(name, self._num_slots, self._pace_per_s, self._pace_per_s)
                limits = next((limits for site, limits in SITE_LIMITS.items() if _belongs_to(name, site)), None)
                if limits is not None:
                    host.num_slots, host.bytes_per_s = min(host.num_slots, limits[0]), limits[1]
                self._hosts[name] = host
            return host

    def all(self) -> list[Host]:
        with self.lock:
            return list(self._hosts.values())

    def limit(self, name: str, *, num_slots: int | None, pace_per_s: float | None, bytes_per_s: float | None) -> None:
        """Tighten one host's limits; never loosens them."""
        host = self[name]
        with self.lock:
            if num_slots is not None:
                host.num_slots = min(host.num_slots, num_slots)
            if pace_per_s is not None:
                host.full_pace_per_s = min(host.full_pace_per_s, pace_per_s)
                host.pace_per_s = min(host.pace_per_s, pace_per_s)
            if bytes_per_s is not None:
                host.bytes_per_s = min(host.bytes_per_s or bytes_per_s, bytes_per_s)

    def inherit_limits(self, host: Host, to: Host) -> None:
        """After a redirect from `host` to `to`: apply the rate limit on bytes to `to` as well."""
        if host.bytes_per_s is not None and to is not host:
            self.limit(to.name, num_slots=host.num_slots, pace_per_s=None, bytes_per_s=host.bytes_per_s)

    def try_acquire(self, host: Host) -> float:
        """Take a slot of `host` and return 0, or return the seconds to wait."""
        with self.lock:
            now = time.monotonic()
            wait_s = host.wait_s(now)
            if wait_s <= 0:
                host.num_busy += 1
                host.free_at = max(now, host.free_at) + 1 / host.pace_per_s
            return wait_s

    @contextmanager
    def slot(self, host: Host, is_stopped: Callable[[], bool]) -> Iterator[bool]:
        """Hold a slot of `host`, waiting as long as its limits require; yields False if stopped while waiting."""
        while (wait_s := self.try_acquire(host)) > 0:
            with self.lock:
                self.lock.wait(min(wait_s, 0.25))
            if is_stopped():
                yield False
                return
        try:
            yield True
        finally:
            self.release(host)

    def release(self, host: Host) -> None:
        with self.lock:
            host.num_busy -= 1
            self.lock.notify_all()

    # --- outcomes of requests -----------------------------------------------------------------------------------

    def pause(self, host: Host, seconds: float, reason: str) -> None:
        """Send nothing to `host` for so long; a longer pause that is under way stays."""
        with self.lock:
            until = time.monotonic() + seconds
            if until > host.paused_until:
                host.paused_until, host.pause_reason = until, reason

    def succeeded(self, host: Host, size_bytes: int = 0) -> None:
        with self.lock:
            now = time.monotonic()
            host.num_failures = host.num_probes = host.num_throttled = 0
            host.num_served += 1
            if host.bytes_per_s and size_bytes:
                host.free_at = max(now, host.free_at) + size_bytes / host.bytes_per_s
            if host.pace_per_s < host.full_pace_per_s and now - max(host.recovered_at, host.slowed_at) >= 1.0:
                host.pace_per_s = min(host.full_pace_per_s, host.pace_per_s * 1.05)
                host.recovered_at = now

    def throttled(
        self, host: Host, started_at: float, retry_after_s: float | None, status: int, page: str = ""
    ) -> None:
        """Handle 429 or 503: halve the pace, once for all requests in flight, and pause.

        Args:
            started_at: monotonic time when the request started; the pace is halved only if this is later than the last
                halving.
            retry_after_s: the pause that the host asks for; None: exponential back-off.
            page: URL of a photo; if it is throttled by itself, the host's pace stays as it is.
        """
        with self.lock:
            if len(host.pages) > MAX_TRACKED_PAGES:
                host.pages.clear()
            if page and _count_page_throttle(host, host.pages.setdefault(page, PageThrottles())):
                return
            now = time.monotonic()
            if started_at >= host.slowed_at:
                host.pace_per_s = max(MIN_PACE_PER_S, host.pace_per_s / 2)
                host.slowed_at = now
                host.num_throttled += 1
            has_retry_after = retry_after_s is not None
            wait_s = min(THROTTLE_MAX_WAIT_S, 2.0 ** min(host.num_throttled, 8) / 2) * random.uniform(0.75, 1.25)
            until = now + (retry_after_s if retry_after_s is not None else wait_s)
            if until > host.paused_until:
                host.paused_until = until
                host.pause_reason = f"{status}{', Retry-After' if has_retry_after else ''}"

    def num_page_throttles(self, host: Host, page: str) -> int:
        """How often the URL `page` was throttled by itself in this run."""
        with self.lock:
            found = host.pages.get(page)
            return found.num_page_caused if found else 0

    def failed(self, host: Host) -> None:
        """Count a missing response or a server error; enough of them in a row open the circuit breaker."""
        with self.lock:
            host.num_failures += 1
            if host.num_failures >= BREAKER_FAILURES:
                wait_s = min(BREAKER_MAX_WAIT_S, BREAKER_WAIT_S * 2.0**host.num_probes) * random.uniform(0.9, 1.1)
                until = time.monotonic() + wait_s
                if until > host.paused_until + 1:
                    host.num_probes += 1
                    host.paused_until = until
                    host.pause_reason = f"{host.num_failures} failures in a row"


def _belongs_to(name: str, site: str) -> bool:
    host = name.rpartition(":")[0]
    return (host == site or host.endswith(f".{site}")) and not name.endswith(SERVICE)


def _count_page_throttle(host: Host, page: PageThrottles) -> bool:
    """Count a throttle of a URL; return whether the URL itself causes it rather than the host's load."""
    is_page_caused = page.num > 0 and (host.num_served > page.served or host.num_load_throttles == page.load_throttles)
    page.num += 1
    page.num_page_caused += is_page_caused
    if not is_page_caused and page.num < SUSPECT_AFTER:
        host.num_load_throttles += 1
    page.served, page.load_throttles = host.num_served, host.num_load_throttles
    return is_page_caused


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After or a rate-limit reset header asks for (as a number or a date), at most a day."""
    for name in ("retry-after", "ratelimit-reset", "x-ratelimit-reset"):
        value = headers.get(name, "").split(",")[0].strip()
        if not value:
            continue
        if _SECONDS.fullmatch(value):
            seconds = float(value)
            if name.endswith("reset") and seconds > 10**8:  # a date as seconds since 1970, or as milliseconds
                seconds = (seconds / 1000 if seconds > 10**11 else seconds) - time.time()
        else:
            try:
                date = parsedate_to_datetime(headers.get(name, ""))
            except (ValueError, TypeError):
                continue
            # Dates of HTTP are in GMT, which its oldest format leaves out.
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time()
        if seconds >= 0:
            return min(seconds, RETRY_AFTER_MAX_S)
    return None
