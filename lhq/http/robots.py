"""What a host's own files ask for, kept for a day: robots.txt, and with it the reservations of the whole host."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from protego import Protego

from lhq.errors import FetchError
from lhq.http.guard import Target
from lhq.rights.reservations import Evidence, Statement, Statements, from_robots, from_tdmrep, timestamp
from lhq.rights.reservations.host_files import TDMREP

FRESH_S = 24 * 3600.0
MAX_BYTES = 512 * 1024
_ROBOTS = "/robots.txt"
_AS_THEY_ARE = {"forbidden-address", "stopped"}


@dataclass(frozen=True, slots=True)
class _Site:
    """A host's files as they were `asked_at` (ISO 8601, and by the monotonic clock)."""

    rules: Protego
    text: str
    tdmrep: bytes | Statement | None
    asked_at: str
    at_s: float


class Robots:
    """The files of every host, fetched once a day at most.

    Args:
        fetch: target → bytes of the file; None where there is none (4xx).
            Raises FetchError where the host can't say (5xx, no answer): of robots.txt, nothing is allowed until it can.
        asks_tdmrep: ask for `/.well-known/tdmrep.json` too.
    """

    def __init__(self, user_agent: str, fetch: Callable[[Target], bytes | None], *, asks_tdmrep: bool = False) -> None:
        self._user_agent, self._fetch, self._asks_tdmrep = user_agent, fetch, asks_tdmrep
        self._sites: dict[str, _Site] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def allows(self, target: Target) -> bool:
        """May this URL be fetched?

        Raises:
            FetchError: the host's robots.txt can't be had now; not permanent.
        """
        return bool(self._site(target).rules.can_fetch(target.url, self._user_agent))

    def crawl_delay_s(self, target: Target) -> float | None:
        delay = self._site(target).rules.crawl_delay(self._user_agent)
        return float(delay) if delay is not None else None

    def evidence(self, target: Target) -> Evidence:
        """What the host's files reserve of this URL.

        Raises:
            FetchError: as `allows`.
        """
        site = self._site(target)
        statements: Statements = from_robots(site.text, target.path, self._user_agent)
        if isinstance(site.tdmrep, Statement):
            statements["tdmrep"] = site.tdmrep
        elif self._asks_tdmrep:
            statements |= from_tdmrep(site.tdmrep, target.path)
        return Evidence(statements, host_asked_at=site.asked_at)

    def _site(self, target: Target) -> _Site:
        with self._lock:
            lock = self._locks.setdefault(target.netloc, threading.Lock())
        with lock:
            found = self._sites.get(target.netloc)
            if found is None or time.monotonic() - found.at_s >= FRESH_S:
                found = self._asked(target)
                self._sites[target.netloc] = found
            return found

    def _asked(self, target: Target) -> _Site:
        place = Target(target.scheme, target.host, target.port, _ROBOTS)
        try:
            text = (self._fetch(place) or b"").decode("utf-8", "replace")
        except FetchError as error:
            raise FetchError(
                f"{place.url}: {error.message}",
                hint=error.hint,
                reason=error.reason if error.reason in _AS_THEY_ARE else f"robots-{error.reason}",
                permanent=error.reason == "forbidden-address",
            ) from error
        tdmrep = self._tdmrep(target) if self._asks_tdmrep else None
        return _Site(Protego.parse(text), text, tdmrep, timestamp(), time.monotonic())

    def _tdmrep(self, target: Target) -> bytes | Statement | None:
        """The file; None where there is none. A host that fails to say is not one that reserves: noted, and gone on."""
        try:
            return self._fetch(Target(target.scheme, target.host, target.port, TDMREP))
        except FetchError as error:
            if error.reason == "stopped":
                raise
            return Statement.of(f"no answer ({error.reason})", reserves=False)
