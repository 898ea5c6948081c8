"""Candidate → photo: threads that fetch, each taking whatever host is ready.

The board hands out work: it holds a short row of due candidates a host, and takes the host's slot before the
candidate, so that no thread sleeps on a slow host while another is ready. A failure is remembered with its reason;
one that may pass waits on, three times longer each time.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from lhq.crawl.frontier import Frontier, Waiting
from lhq.crawl.search import LOCAL_HOST
from lhq.crawl.spool import now, papers_of
from lhq.crawl.writer import Fetched, Keeper
from lhq.errors import FetchError, ImageError
from lhq.http import Client
from lhq.images import Header, inspect
from lhq.sources import Source

ROW = 200
REFILL_EVERY_S = 0.5
RETRY_LONGEST_S = 3600.0
MOST_THROTTLED = 50
SLOW_S = 3.0
# What the door may say of bytes that another attempt may bring whole.
_MAY_PASS = {"truncated", "corrupt-header", "empty"}


@dataclass(slots=True)
class _Row:
    """The due candidates of one host, as last read from the frontier."""

    candidates: deque[Waiting] = field(default_factory=deque)
    read_at: float = 0.0


class Board:
    """Who fetches what; every method is safe from any thread.

    Args:
        want: photos to keep in all; `num_kept` those the store has already.
        sources: names of the sources that take part in this run.
    """

    def __init__(self, frontier: Frontier, client: Client, want: int, num_kept: int, sources: Sequence[str]) -> None:
        self._frontier, self._client = frontier, client
        self._sources = tuple(sources)
        self.want, self.num_kept = want, num_kept
        self.num_new = 0
        self.failures: Counter[str] = Counter()
        self.num_bytes = 0
        self.crash: BaseException | None = None
        self.changed = threading.Condition()
        self._rows: dict[str, _Row] = {}
        self._flying: dict[int, float] = {}
        self._num_claimed = num_kept
        self._hosts_at = 0.0
        self._is_closed = False

    def has_already(self, num: int) -> None:
        """The store holds so many photos before anything is fetched."""
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
                        self._flying[found.number] = time.monotonic()
                        return found
                self.changed.wait(0.05)
            return None

    def claim(self) -> bool:
        """May one more photo be kept? Asked with its bytes in hand, since more may be under way than are wanted."""
        with self.changed:
            if self._num_claimed >= self.want:
                return False
            self._num_claimed += 1
            return True

    def kept(self, numbers: Sequence[int]) -> None:
        with self.changed:
            for number in numbers:
                self._flying.pop(number, None)
            self.num_kept += len(numbers)
            self.num_new += len(numbers)
            self.changed.notify_all()

    def dropped(self, number: int, reason: str) -> None:
        """An attempt ended without a photo."""
        with self.changed:
            self._flying.pop(number, None)
            if reason:
                self.failures[reason] += 1
            self.changed.notify_all()

    def crashed(self, error: BaseException) -> None:
        with self.changed:
            self.crash = self.crash or error
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
            return not self._flying

    def poke(self) -> None:
        """Candidates were added: read the frontier again."""
        with self.changed:
            self._hosts_at = 0.0
            for row in self._rows.values():
                row.read_at = 0.0
            self.changed.notify_all()

    def _has_room(self) -> bool:
        """No more are under way than are wanted, but for those that take long: the last wanted photo must not wait
        for one slow host while others are ready."""
        lately = time.monotonic() - SLOW_S
        return self.num_kept + sum(began > lately for began in self._flying.values()) < self.want

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
                due = self._frontier.waiting(host, time.time(), ROW + len(self._flying), self._sources)
                row.candidates.extend(each for each in due if each.number not in self._flying)
                if row.candidates:
                    row.read_at = 0.0

    def _pick(self) -> Waiting | None:
        for host in list(self._rows):
            row = self._rows[host]
            if row.candidates and (host == LOCAL_HOST or self._client.hosts.try_take(self._client.hosts[host]) <= 0):
                self._rows[host] = self._rows.pop(host)  # the next turn is another host's
                return row.candidates.popleft()
        return None


class Fetcher:
    """The worker threads."""

    def __init__(
        self,
        board: Board,
        keeper: Keeper,
        frontier: Frontier,
        client: Client,
        sources: Mapping[str, Source],
        num: int,
        removed_sha256: frozenset[str] = frozenset(),
    ) -> None:
        self._removed_sha256 = removed_sha256
        self._board, self._keeper, self._frontier, self._client = board, keeper, frontier, client
        self._sources = sources
        self.threads = [threading.Thread(target=self._run, name=f"fetch {i}", daemon=True) for i in range(num)]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def join(self, until: Callable[[], bool]) -> bool:
        """Wait for all threads while `until` is false; True if they ended."""
        while any(thread.is_alive() for thread in self.threads):
            if until():
                return False
            for thread in self.threads:
                thread.join(0.05)
                if thread.is_alive():
                    break
        return True

    def _run(self) -> None:
        try:
            while (waiting := self._board.take()) is not None:
                self._one(waiting)
        except BaseException as error:
            self._board.crashed(error)

    def _one(self, waiting: Waiting) -> None:
        try:
            url, data = self._bytes(waiting)
            header = inspect(data, max_pixels=self._client.settings.max_pixels)
            self._judge(waiting, header)
        except FetchError as error:
            self._failed(waiting, error.reason, error.message, permanent=error.permanent)
        except ImageError as error:
            self._failed(waiting, error.reason, error.message, permanent=error.reason not in _MAY_PASS)
        else:
            self._board.num_bytes += len(data)
            if not self._board.claim():
                self._board.dropped(waiting.number, "")
                return
            papers = papers_of(waiting.candidate, header, url, now())
            self._keeper.put(Fetched(waiting.number, papers, data))

    def _bytes(self, waiting: Waiting) -> tuple[str, bytes | bytearray]:
        source = self._sources[waiting.candidate.source]
        if source.is_local:
            return waiting.candidate.url, source.read(waiting.candidate)
        answer = self._client.fetch(waiting.candidate.url, has_slot=True)
        return waiting.candidate.url, answer.body

    def _judge(self, waiting: Waiting, header: Header) -> None:
        if header.sha256 in self._removed_sha256:
            raise ImageError("these bytes were taken down", hint="see removed.parquet", reason="removed")
        least = self._sources[waiting.candidate.source].settings.min_side_px
        if min(header.width_px, header.height_px) < least:
            raise ImageError(
                f"{header.width_px} x {header.height_px}, the short side must be {least}",
                hint="lower min_side_px if smaller photos are meant",
                reason="too-small",
            )

    def _failed(self, waiting: Waiting, reason: str, message: str, *, permanent: bool) -> None:
        if reason == "stopped":
            self._board.dropped(waiting.number, "")
            return
        attempts = waiting.attempts + 1
        is_mood = reason == "throttled"
        if is_mood:
            attempts = self._frontier.num_attempts(waiting.number, reason) + 1
        limit = MOST_THROTTLED if is_mood else self._client.settings.max_attempts
        retry_at = None
        if not permanent and attempts < limit:
            delay_s = self._client.settings.retry_delay_s * 3.0 ** min(attempts - 1, 10)
            retry_at = time.time() + min(RETRY_LONGEST_S, delay_s) * random.uniform(0.5, 1.5)
        self._frontier.fail(waiting.number, reason, self._client.clean(message), retry_at=retry_at, counts=not is_mood)
        self._board.dropped(waiting.number, reason)
