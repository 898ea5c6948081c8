"""A host's robots.txt and tdmrep.json, cached for a day: what may be fetched, and the host's reservations."""

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

MAX_AGE_S = 24 * 3600.0
MAX_BYTES = 512 * 1024
_ROBOTS = "/robots.txt"
_UNPREFIXED_REASONS = {"forbidden-address", "stopped"}


@dataclass(frozen=True, slots=True)
class _HostFiles:
    """A host's files, fetched at `fetched_at` (ISO 8601), `fetched_at_s` (monotonic clock)."""

    rules: Protego
    text: str
    tdmrep: bytes | Statement | None
    fetched_at: str
    fetched_at_s: float


class Robots:
    """The files of every host, fetched at most once a day.

    Args:
        fetch: target → bytes of the file; None if there is none (4xx). Raises FetchError on 5xx or no response; for
            robots.txt, nothing is allowed until it can be fetched.
        fetches_tdmrep: fetch `/.well-known/tdmrep.json` too.
    """

    def __init__(
        self, user_agent: str, fetch: Callable[[Target], bytes | None], *, fetches_tdmrep: bool = False
    ) -> None:
        self._user_agent, self._fetch, self._fetches_tdmrep = user_agent, fetch, fetches_tdmrep
        self._files: dict[str, _HostFiles] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def allows(self, target: Target) -> bool:
        """Whether robots.txt allows a URL.

        Raises:
            FetchError: robots.txt can't be fetched now; not permanent.
        """
        return bool(self._files_of(target).rules.can_fetch(target.url, self._user_agent))

    def crawl_delay_s(self, target: Target) -> float | None:
        delay = self._files_of(target).rules.crawl_delay(self._user_agent)
        return float(delay) if delay is not None else None

    def evidence(self, target: Target) -> Evidence:
        """What the host's files reserve of a URL.

        Raises:
            FetchError: as `allows`.
        """
        files = self._files_of(target)
        statements: Statements = from_robots(files.text, target.path, self._user_agent)
        if isinstance(files.tdmrep, Statement):
            statements["tdmrep"] = files.tdmrep
        elif self._fetches_tdmrep:
            statements |= from_tdmrep(files.tdmrep, target.path)
        return Evidence(statements, host_asked_at=files.fetched_at)

    def _files_of(self, target: Target) -> _HostFiles:
        with self._lock:
            lock = self._locks.setdefault(target.netloc, threading.Lock())
        with lock:
            files = self._files.get(target.netloc)
            if files is None or time.monotonic() - files.fetched_at_s >= MAX_AGE_S:
                files = self._fetch_files(target)
                self._files[target.netloc] = files
            return files

    def _fetch_files(self, target: Target) -> _HostFiles:
        robots_target = Target(target.scheme, target.host, target.port, _ROBOTS)
        try:
            text = (self._fetch(robots_target) or b"").decode("utf-8", "replace")
        except FetchError as error:
            raise FetchError(
                f"{robots_target.url}: {error.message}",
                hint=error.hint,
                reason=error.reason if error.reason in _UNPREFIXED_REASONS else f"robots-{error.reason}",
                permanent=error.reason == "forbidden-address",
            ) from error
        tdmrep = self._tdmrep(target) if self._fetches_tdmrep else None
        return _HostFiles(Protego.parse(text), text, tdmrep, timestamp(), time.monotonic())

    def _tdmrep(self, target: Target) -> bytes | Statement | None:
        """The file, or None if there is none. A failure isn't an opt-out: it is recorded as a statement instead."""
        try:
            return self._fetch(Target(target.scheme, target.host, target.port, TDMREP))
        except FetchError as error:
            if error.reason == "stopped":
                raise
            return Statement.of(f"no answer ({error.reason})", reserves=False)
