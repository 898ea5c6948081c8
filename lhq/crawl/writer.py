"""Photo → spool → shard: one thread writes what was fetched, in the order that no crash can undo.

First the record in the spool, then `kept` in the frontier: a kill between the two is mended when the spool is read
again. Power cuts are covered every few seconds by a sync; photos that a cut took from the spool's end are found
missing on the next start and wait again. Sealing runs beside, one shard at a time.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from lhq.crawl.frontier import Frontier, Kept
from lhq.crawl.spool import Spool, open_numbers
from lhq.errors import StoreError
from lhq.http import Budget
from lhq.records import PAPERS, Candidate
from lhq.store.shards import Shards

SYNC_EVERY_S = 3.0
_OF_CANDIDATE = {field.name for field in fields(Candidate)} & set(PAPERS)
MEMORY_CAP = 48 * 2**20


@dataclass(frozen=True, slots=True)
class Fetched:
    """A photo that passed the door: its number in the frontier, its papers, its bytes."""

    number: int
    papers: dict[str, Any]
    data: bytes | bytearray


class PhotoWriter:
    """Writes photos; safe to be given them from many threads.

    Args:
        folder: the local folder of the store.
        kept: called with the numbers that are safe now.
        failed: called once if writing became impossible.
    """

    def __init__(
        self,
        folder: str,
        shards: Shards,
        frontier: Frontier,
        kept: Callable[[Sequence[int]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._folder, self._shards, self._frontier = folder, shards, frontier
        self._kept, self._failed = kept, failed
        self._queue: queue.SimpleQueue[Fetched | None] = queue.SimpleQueue()
        self._budget = Budget(MEMORY_CAP)
        self._sealing: threading.Thread | None = None
        self._seal_error: BaseException | None = None
        self._spool: Spool | None = None
        self._is_broken = False
        self._is_abandoned = False
        self._unwanted: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="keep", daemon=True)

    def recover(self) -> int:
        """Bring spools, shards and frontier together after whatever happened; returns how many photos a power cut
        or a vanished spool took (they wait again)."""
        self._shards.forget_debris()
        lost = 0
        for number in open_numbers(self._folder):
            if self._shards.exists(number):
                spool = Spool(self._folder, number)
                self._mark(spool)
                spool.seal(self._shards, self._frontier.queries_of)
                continue
            if self._spool is not None:
                self._spool.seal(self._shards, self._frontier.queries_of)
            self._spool = Spool(self._folder, number)
            lost += self._mark(self._spool)
        return lost

    def adopt(self) -> int:
        """Make the frontier know photos of shards that it has never heard of: imported ones, or all of them where
        the frontier was lost. Returns how many; they are not fetched again."""
        num = 0
        known = set(self._frontier.shards())
        for number in self._shards.numbers():
            if number in known:
                continue
            columns = [name for name in PAPERS if name in _OF_CANDIDATE or name in {"queries", "size_bytes"}]
            for batch in self._shards.batches(number, columns, rows=1000):
                num += self._frontier.adopt([_candidate(row) for row in batch.to_pylist()], number)
        return num

    def missing(self) -> list[int]:
        """Shards that photos are marked to be in, but that are not there."""
        present = {*self._shards.numbers(), *open_numbers(self._folder)}
        return [number for number in self._frontier.shards() if number not in present]

    def _mark(self, spool: Spool) -> int:
        """Mark what the spool holds as kept, and what it should hold but doesn't as lost."""
        sizes = {entry.id: entry.size_bytes for entry in spool.entries}
        known = self._frontier.numbers_of(list(sizes))
        late = [Kept(number, spool.number, sizes[id]) for id, (number, status) in known.items() if status == "waiting"]
        self._frontier.keep(late)
        strange = [entry for entry in spool.entries if entry.id not in known]
        self._frontier.adopt([_candidate(spool.papers(entry)) for entry in strange], spool.number)
        gone = [id for id in self._frontier.kept_in(spool.number) if id not in sizes]
        return self._frontier.lose(gone, "lost")

    def start(self) -> None:
        self._thread.start()

    def leave_out(self, ids: Sequence[str]) -> None:
        """Photos that are not wanted any more: they do not get into a shard that is not sealed yet."""
        self._unwanted.update(ids)

    def put(self, photo: Fetched) -> None:
        """Hand over a photo; waits while too many bytes are under way."""
        self._budget.take(len(photo.data))
        self._queue.put(photo)

    def finish(self, is_overdue: Callable[[], bool]) -> bool:
        """Write what was handed over, seal the open spool, and end.

        Returns:
            False if it was overdue before everything was sealed: the spools stay, and the next run seals them.

        Raises:
            StoreError: the last shard can't be sealed; its spool stays and the next run seals it.
        """
        self._queue.put(None)
        if not (_joined(self._thread, is_overdue) and _joined(self._sealing, is_overdue)):
            self._is_abandoned = True
            return False
        self._join_sealing()
        if self._spool is not None and not self._is_broken:
            spool, self._spool = self._spool, None
            spool.sync()
            self._sealing = threading.Thread(target=self._seal, args=(spool,), name="seal", daemon=True)
            self._sealing.start()
            if not _joined(self._sealing, is_overdue):
                self._is_abandoned = True
                return False
            self._join_sealing()
        elif self._spool is not None:
            self._spool.close()
        return True

    def _queries_of(self, ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        if self._is_abandoned:
            raise StoreError("the shard was not written to its end", hint="run the same command again to go on")
        return self._frontier.queries_of(ids)

    def _run(self) -> None:
        synced_at = time.monotonic()
        is_last = False
        try:
            while not is_last:
                group = [self._queue.get()]
                while len(group) < 64 and not self._queue.empty():
                    group.append(self._queue.get())
                is_last = None in group
                self._write([photo for photo in group if photo is not None])
                if self._spool is not None and time.monotonic() - synced_at > SYNC_EVERY_S:
                    self._spool.sync()
                    synced_at = time.monotonic()
        except BaseException as error:
            self._is_broken = True
            self._failed(error)
            self._drain()

    def _drain(self) -> None:
        """Writing is impossible: let nobody wait for room any more."""
        while (photo := self._queue.get()) is not None:
            self._budget.give_back(min(len(photo.data), MEMORY_CAP))

    def _write(self, group: list[Fetched]) -> None:
        done: list[Kept] = []
        try:
            for photo in group:
                if self._spool is None or self._spool.is_full:
                    self._mark_kept(done)
                    done = []
                    self._turn_over()
                assert self._spool is not None
                self._spool.append(photo.papers, photo.data)
                done.append(Kept(photo.number, self._spool.number, len(photo.data)))
        finally:
            for photo in group:
                self._budget.give_back(min(len(photo.data), MEMORY_CAP))
            self._mark_kept(done)

    def _mark_kept(self, done: list[Kept]) -> None:
        if done:
            self._frontier.keep(done)
            self._kept([kept.number for kept in done])

    def _turn_over(self) -> None:
        """Seal the full spool beside, and open the next."""
        self._join_sealing()
        full, number = self._spool, self._next_number()
        self._spool = Spool(self._folder, number)
        if full is not None:
            self._sealing = threading.Thread(target=self._seal, args=(full,), name="seal", daemon=True)
            self._sealing.start()

    def _next_number(self) -> int:
        taken = [*self._shards.numbers(), *open_numbers(self._folder), *self._frontier.shards()]
        return max(taken, default=-1) + 1

    def _seal(self, spool: Spool) -> None:
        try:
            spool.seal(self._shards, self._queries_of, frozenset(self._unwanted))
        except BaseException as error:
            self._seal_error = error

    def _join_sealing(self) -> None:
        if self._sealing is not None:
            self._sealing.join()
            self._sealing = None
        if self._seal_error is not None:
            error, self._seal_error = self._seal_error, None
            raise error


def _joined(thread: threading.Thread | None, is_overdue: Callable[[], bool]) -> bool:
    """Wait for a thread; False if it was overdue before it ended."""
    while thread is not None and thread.is_alive():
        if is_overdue():
            return False
        thread.join(0.05)
    return True


def _candidate(row: Mapping[str, Any]) -> tuple[Candidate, int]:
    """The candidate that a photo's papers tell of, and the size of its bytes."""
    papers: dict[str, Any] = {name: row[name] for name in _OF_CANDIDATE}
    papers.update({name: tuple(value) for name, value in papers.items() if isinstance(value, list)})
    query = row["queries"][0] if row["queries"] else ""
    return Candidate(**papers, query=query), row["size_bytes"]
