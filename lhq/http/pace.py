"""Politeness belongs to the host: its slots, its pace, its pauses and its circuit breaker, whoever asks.

The pace halves on 429 and 503 and comes back by 5 % a second of success. A host that fails eight times in a row
is left alone for half a minute, then one probe decides; each failed probe doubles the wait, up to ten minutes.

Some pages are always throttled, however fast the host is asked. A page that is throttled again counts as one of those
if the host has served others since, or has throttled no other: it is counted, and the host's pace stays as it is.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

BREAKER_FAILURES = 8
BREAKER_WAIT_S = 30.0
BREAKER_LONGEST_S = 600.0
SLOWEST_PER_S = 1 / 60
THROTTLE_LONGEST_S = 60.0
RETRY_AFTER_LONGEST_S = 24 * 3600.0
# Limits that a site sets for robots on every host of its domain: connections at once, and bytes a second. Source:
# wikitech.wikimedia.org/wiki/Robot_policy.
SITES: dict[str, tuple[int, float]] = {"wikimedia.org": (2, 25e6 / 8)}
SERVICE = " (API)"
"""Ends the name of a service, whose manners are its own."""
# A page throttled this often no longer says anything about the host's load.
SUSPECT_AFTER = 4
MOST_PAGES = 10_000


@dataclass(slots=True)
class Throttled:
    """One throttled page: how often it was throttled, how often for its own sake, and what the host had served and
    throttled by the last time.
    """

    num: int = 0
    num_own: int = 0
    served: int = 0
    moods: int = 0


@dataclass(slots=True)
class Host:
    """One host's limits and present state; every field is guarded by `Hosts.lock`.

    `pace_per_s` is the present pace, `full_pace_per_s` what it may recover to. `paused_until` is on the
    monotonic clock.
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
    halved_at: float = 0.0
    raised_at: float = 0.0
    num_served: int = 0
    num_moods: int = 0
    pages: dict[str, Throttled] = field(default_factory=dict)

    def wait_s(self, now: float) -> float:
        """Seconds until the host may be asked: 0 now, infinite where only a freed slot can tell."""
        if self.paused_until > now:
            return self.paused_until - now
        probing = self.num_failures >= BREAKER_FAILURES
        if self.num_busy >= (1 if probing else self.num_slots):
            return float("inf")
        return max(0.0, self.free_at - now)

    def is_slowed(self) -> bool:
        return self.pace_per_s < 0.99 * self.full_pace_per_s


class Hosts:
    """All hosts that were met, and the waiting for them."""

    def __init__(self, *, num_slots: int, pace_per_s: float) -> None:
        self._num_slots, self._pace_per_s = num_slots, pace_per_s
        self._hosts: dict[str, Host] = {}
        self.lock = threading.Condition()

    def __getitem__(self, name: str) -> Host:
        with self.lock:
            host = self._hosts.get(name)
            if host is None:
                host = Host(name, self._num_slots, self._pace_per_s, self._pace_per_s)
                asked = next((asked for site, asked in SITES.items() if _is_of(name, site)), None)
                if asked is not None:
                    host.num_slots, host.bytes_per_s = min(host.num_slots, asked[0]), asked[1]
                self._hosts[name] = host
            return host

    def all(self) -> list[Host]:
        with self.lock:
            return list(self._hosts.values())

    def limit(self, name: str, *, num_slots: int | None, pace_per_s: float | None, bytes_per_s: float | None) -> None:
        """Stricter limits for one host than the settings' (never looser)."""
        host = self[name]
        with self.lock:
            if num_slots is not None:
                host.num_slots = min(host.num_slots, num_slots)
            if pace_per_s is not None:
                host.full_pace_per_s = min(host.full_pace_per_s, pace_per_s)
                host.pace_per_s = min(host.pace_per_s, pace_per_s)
            if bytes_per_s is not None:
                host.bytes_per_s = min(host.bytes_per_s or bytes_per_s, bytes_per_s)

    def follow(self, host: Host, to: Host) -> None:
        """A redirect leads from one host to another: the bytes that its terms allow are the same there."""
        if host.bytes_per_s is not None and to is not host:
            self.limit(to.name, num_slots=host.num_slots, pace_per_s=None, bytes_per_s=host.bytes_per_s)

    def try_take(self, host: Host) -> float:
        """Take a slot of `host` now (returns 0), or say how long to wait."""
        with self.lock:
            now = time.monotonic()
            wait_s = host.wait_s(now)
            if wait_s <= 0:
                host.num_busy += 1
                host.free_at = max(now, host.free_at) + 1 / host.pace_per_s
            return wait_s

    @contextmanager
    def slot(self, host: Host, is_stopped: Callable[[], bool]) -> Iterator[bool]:
        """Hold a slot of `host`, waiting as long as its limits require; yields False if stopped meanwhile."""
        while (wait_s := self.try_take(host)) > 0:
            with self.lock:
                self.lock.wait(min(wait_s, 0.25))
            if is_stopped():
                yield False
                return
        try:
            yield True
        finally:
            self.give_back(host)

    def give_back(self, host: Host) -> None:
        with self.lock:
            host.num_busy -= 1
            self.lock.notify_all()

    # --- what an answer teaches ---------------------------------------------------------------------------------

    def pause(self, host: Host, seconds: float, reason: str) -> None:
        """Ask nothing of `host` for so long; a longer pause that already holds stays."""
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
            if host.pace_per_s < host.full_pace_per_s and now - max(host.raised_at, host.halved_at) >= 1.0:
                host.pace_per_s = min(host.full_pace_per_s, host.pace_per_s * 1.05)
                host.raised_at = now

    def throttled(self, host: Host, began_at: float, retry_after_s: float | None, status: int, page: str = "") -> None:
        """429 or 503: halve the pace once for all requests that were under way, and pause as told.

        Args:
            began_at: monotonic time when the request began; those begun before the last halving teach nothing new.
            page: what was asked for; one that is throttled for its own sake teaches nothing of the host.
        """
        with self.lock:
            if len(host.pages) > MOST_PAGES:
                host.pages.clear()
            if page and _is_own(host, host.pages.setdefault(page, Throttled())):
                return
            now = time.monotonic()
            if began_at >= host.halved_at:
                host.pace_per_s = max(SLOWEST_PER_S, host.pace_per_s / 2)
                host.halved_at = now
                host.num_throttled += 1
            told = retry_after_s is not None
            wait_s = min(THROTTLE_LONGEST_S, 2.0 ** min(host.num_throttled, 8) / 2) * random.uniform(0.75, 1.25)
            until = now + (retry_after_s if retry_after_s is not None else wait_s)
            if until > host.paused_until:
                host.paused_until = until
                host.pause_reason = f"{status}{', Retry-After' if told else ''}"

    def num_own_throttles(self, host: Host, page: str) -> int:
        """How often `page` was throttled for its own sake in this run."""
        with self.lock:
            found = host.pages.get(page)
            return found.num_own if found else 0

    def failed(self, host: Host) -> None:
        """No answer, or a server error: enough in a row open the circuit."""
        with self.lock:
            host.num_failures += 1
            if host.num_failures >= BREAKER_FAILURES:
                wait_s = min(BREAKER_LONGEST_S, BREAKER_WAIT_S * 2.0**host.num_probes) * random.uniform(0.9, 1.1)
                until = time.monotonic() + wait_s
                if until > host.paused_until + 1:
                    host.num_probes += 1
                    host.paused_until = until
                    host.pause_reason = f"{host.num_failures} failures in a row"


def _is_of(name: str, site: str) -> bool:
    host = name.rpartition(":")[0]
    return (host == site or host.endswith(f".{site}")) and not name.endswith(SERVICE)


def _is_own(host: Host, page: Throttled) -> bool:
    """Count one more throttle of a page, and say whether the page causes it rather than the host's load."""
    is_own = page.num > 0 and (host.num_served > page.served or host.num_moods == page.moods)
    page.num += 1
    page.num_own += is_own
    if not is_own and page.num < SUSPECT_AFTER:
        host.num_moods += 1
    page.served, page.moods = host.num_served, host.num_moods
    return is_own


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After or a rate-limit reset header asks for (a number, or a date), at most a day."""
    for name in ("retry-after", "ratelimit-reset", "x-ratelimit-reset"):
        value = headers.get(name, "").split(",")[0].strip()
        if not value:
            continue
        try:
            seconds = float(value)
            if name.endswith("reset") and seconds > 10**8:  # a date as seconds since 1970
                seconds -= time.time()
        except ValueError:
            try:
                seconds = parsedate_to_datetime(headers.get(name, "")).timestamp() - time.time()
            except (ValueError, TypeError):
                continue
        if seconds == seconds and seconds >= 0:
            return min(seconds, RETRY_AFTER_LONGEST_S)
    return None
