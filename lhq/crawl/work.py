"""The work queue: hands due candidates of any ready host to the next free worker.

A short queue of due candidates is kept for each host, and a host's slot is taken before its candidate, so that no
worker waits for a slow host while another is ready.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lhq.crawl.frontier import Frontier, Waiting
from lhq.crawl.search import LOCAL_HOST
from lhq.http import Client
from lhq.sources import Source

ROW = 200
REFILL_EVERY_S = 0.5
# Photos in flight for longer than this don't keep others from being fetched in their place.
SLOW_S = 3.0
# Halvings of a host's pace in a row, with no photo between them: about an hour of pauses of a minute.
MOST_THROTTLES = 60
LONG_REST_S = 600.0


@dataclass(slots=True)
class _Row:
    """The due candidates of one host, as last read from the frontier."""

    candidates: deque[Waiting] = field(default_factory=deque)
    read_at: float = 0.0


class WorkQueue:
    """The candidates of one run; every method is safe from any thread.

    Args:
        want: photos to keep in all.
        sources: those that take part in this run.
    """

    def __init__(self, frontier: Frontier, client: Client, want: int, sources: Mapping[str, Source]) -> None:
        self._frontier, self._client = frontier, client
        self._sources, self._names = sources, tuple(sources)
        self.want, self.num_kept = want, 0
        self.num_new = 0
        self.failures: Counter[str] = Counter()
        self.num_bytes = 0
        self.crash: BaseException | None = None
        self.changed = threading.Condition()
        self._rows: dict[str, _Row] = {}
        self._under_way: dict[int, float] = {}
        self._num_claimed = 0
        self._hosts_at = 0.0
        self._is_closed = False

    def has_already(self, num: int) -> None:
        """How many photos the store holds before anything is fetched."""
        self.num_kept = self._num_claimed = num

    # --- for the workers ----------------------------------------------------------------------------------------

    def take(self) -> Waiting | None:
        """The next candidate whose host is ready, its slot taken; None when the crawl is over."""
        with self.changed:
            while not self._is_over():
                if self._has_room():
                    self._refill()
                    found = self._pick()
                    if found is not None:
                        self._under_way[found.number] = time.monotonic()
                        return found
                self.changed.wait(0.05)
            return None

    def claim(self) -> bool:
        """May one more photo be kept? Asked once its bytes are here, since more downloads may be in flight than photos
        are wanted.
        """
        with self.changed:
            if self._num_claimed >= self.want:
                return False
            self._num_claimed += 1
            return True

    def kept(self, numbers: Sequence[int]) -> None:
        with self.changed:
            for number in numbers:
                self._under_way.pop(number, None)
            self.num_kept += len(numbers)
            self.num_new += len(numbers)
            self.changed.notify_all()

    def dropped(self, number: int, reason: str) -> None:
        """An attempt ended without a photo."""
        with self.changed:
            self._under_way.pop(number, None)
            if reason:
                self.failures[reason] += 1
            self.changed.notify_all()

    def crashed(self, error: BaseException) -> None:
        with self.changed:
            self.crash = self.crash or error
            self.changed.notify_all()

    def uncovered(self, num: int) -> None:
        """So many kept photos turned out to be placeholders."""
        with self.changed:
            self.num_kept -= num
            self.num_new -= num
            self._num_claimed -= num
            self.changed.notify_all()

    # --- for the crawl ------------------------------------------------------------------------------------------

    def need(self) -> int:
        """How many more photos may be kept."""
        with self.changed:
            return self.want - self.num_kept

    def close(self) -> None:
        """Hand out nothing more."""
        with self.changed:
            self._is_closed = True
            self.changed.notify_all()

    def is_idle(self) -> bool:
        """Nothing is under way."""
        with self.changed:
            return not self._under_way

    def is_hopeless(self) -> bool:
        """Is everything left in this run on hosts that have refused requests for long, or asked for a long pause?"""
        now = time.monotonic()
        hosts = [self._client.hosts[name] for name in self._frontier.hosts() if name != LOCAL_HOST]
        if not hosts or len(hosts) < len(self._frontier.hosts()):
            return False
        if all(host.num_throttled >= MOST_THROTTLES for host in hosts):
            return True
        is_long = all(host.paused_until - now > LONG_REST_S for host in hosts)
        return is_long and self._frontier.is_all_throttled(self._names)

    def poke(self) -> None:
        """Candidates were added: read the frontier again."""
        with self.changed:
            self._hosts_at = 0.0
            for row in self._rows.values():
                row.read_at = 0.0
            self.changed.notify_all()

    def _has_room(self) -> bool:
        """No more downloads are in flight than photos are wanted, not counting slow ones: the last wanted photo must
        not wait for one slow host while others are ready.
        """
        lately = time.monotonic() - SLOW_S
        return self.num_kept + sum(began > lately for began in self._under_way.values()) < self.want

    def _is_over(self) -> bool:
        return self._is_closed or self.crash is not None or self._client.is_stopped() or self.num_kept >= self.want

    def _refill(self) -> None:
        now_s = time.monotonic()
        if now_s - self._hosts_at > REFILL_EVERY_S:
            self._hosts_at = now_s
            for host in self._frontier.hosts():
                self._rows.setdefault(host, _Row())
        for host, row in self._rows.items():
            if not row.candidates and now_s - row.read_at > REFILL_EVERY_S:
                row.read_at = now_s
                due = self._frontier.waiting(host, time.time(), ROW + len(self._under_way), self._names)
                self._mind(due)
                row.candidates.extend(each for each in due if each.number not in self._under_way)
                if row.candidates:
                    row.read_at = 0.0

    def _mind(self, due: Sequence[Waiting]) -> None:
        """Apply the limits that a source's terms ask for to whichever hosts serve its photos today."""
        for name in {each.candidate.source for each in due}:
            manners = self._sources[name].manners
            if manners is not None:
                for url in {each.candidate.url for each in due if each.candidate.source == name}:
                    self._client.limit(url, num_slots=manners.num_slots, bytes_per_s=manners.bytes_per_s)

    def _pick(self) -> Waiting | None:
        for host in list(self._rows):
            row = self._rows[host]
            if row.candidates and (host == LOCAL_HOST or self._client.hosts.try_acquire(self._client.hosts[host]) <= 0):
                self._rows[host] = self._rows.pop(host)  # the next turn is another host's
                return row.candidates.popleft()
        return None
