"""Photo → spool → shard: one thread writes what was fetched, in an order that survives any crash.

First the record in the spool, then `kept` in the frontier: a kill between the two is mended when the spool is read
again. Power cuts are covered every few seconds by a sync, in a thread of its own, since it takes as long as the disk
does; photos that a cut took from the spool's end are found missing on the next start and wait again. Sealing runs
beside, one shard at a time.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

from lhq.crawl.frontier import Frontier, Kept
from lhq.crawl.spool import PreparedPhoto, Spool, open_numbers
from lhq.errors import ShardDamaged, StoreError
from lhq.http import Budget
from lhq.records import PAPERS, Candidate
from lhq.store.shards import Shards

SYNC_EVERY_S = 3.0
BEHIND_EVERY_S = 0.25
_OF_CANDIDATE = {field.name for field in fields(Candidate)} & set(PAPERS)
MEMORY_CAP = 48 * 2**20
_READERS = 8  # of ids: opening one small file overlaps with waiting for others


@dataclass(frozen=True, slots=True)
class Fetched:
    """A photo that passed the checks, and its number in the frontier."""

    number: int
    photo: PreparedPhoto

    @property
    def size_bytes(self) -> int:
        return len(self.photo.data)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What shards and frontier didn't agree on: how many photos the frontier didn't count as kept and does now; the ids
    that it counts in a shard that lacks them; what is said of shards that can't be read."""

    num_adopted: int
    lacking: Mapping[int, Sequence[str]]
    unreadable: Sequence[str]


class PhotoWriter:
    """Writes photos; safe to call from many threads.

    Args:
        folder: the local folder of the store.
        kept: called with the numbers that are safe now.
        failed: called if writing became impossible.
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
        self._ended = threading.Event()
        self._is_broken = False
        self._is_abandoned = False
        self._unwanted: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="keep", daemon=True)
        self._syncing = threading.Thread(target=self._sync, name="sync", daemon=True)

    def recover(self) -> int:
        """Reconcile spools, shards and frontier after any crash; returns how many photos a power cut or a vanished
        spool lost (they wait to be fetched again).
        """
        self._shards.delete_partial_files()
        lost = 0
        for number in open_numbers(self._folder):
            if self._shards.exists(number):
                spool = Spool(self._folder, number, is_sealed=True)
                self._mark(spool)
                spool.seal(self._shards, self._frontier.queries_of)
                continue
            if self._spool is not None:
                self._spool.seal(self._shards, self._frontier.queries_of)
            self._spool = Spool(self._folder, number)
            lost += self._mark(self._spool)
        return lost

    def compare(self) -> Comparison:
        """Compare every shard's ids with the frontier's, and make the frontier know photos that it doesn't count as
        kept: imported ones, those that an older copy of the frontier has still waiting, or all where it was lost. They
        are not fetched again.

        Raises:
            ShardDamaged: a shard that the frontier has never heard of can't be read.
        """
        num, lacking, unreadable = 0, {}, []
        numbers, known = self._shards.numbers(), set(self._frontier.shards())
        with ThreadPoolExecutor(_READERS) as readers:
            for number, ids in zip(numbers, readers.map(self._ids_or_damage, numbers), strict=True):
                if isinstance(ids, ShardDamaged):
                    if number not in known:
                        raise ids
                    unreadable.append(str(ids))
                    continue
                kept = set(self._frontier.kept_in(number))
                num += self._adopt(number, ids - kept) if ids - kept else 0
                if kept - ids:
                    lacking[number] = sorted(kept - ids)
        return Comparison(num, lacking, unreadable)

    def _ids_or_damage(self, number: int) -> set[str] | ShardDamaged:
        try:
            return set(self._shards.read(number, ["id"])["id"].to_pylist())
        except ShardDamaged as error:
            return error

    def _adopt(self, number: int, ids: Set[str]) -> int:
        """Mark photos of a shard as kept that the frontier has as waiting, or doesn't know; those that failed since
        (taken down) stay so. Returns how many."""
        numbers, num = self._frontier.numbers_of(sorted(ids)), 0
        columns = [name for name in PAPERS if name in _OF_CANDIDATE or name in {"id", "queries", "size_bytes"}]
        for batch in self._shards.batches(number, columns, rows=1000):
            rows = [row for row in batch.to_pylist() if row["id"] in ids]
            waiting = [row for row in rows if numbers.get(row["id"], (0, ""))[1] == "waiting"]
            self._frontier.keep([Kept(numbers[row["id"]][0], number, row["size_bytes"]) for row in waiting])
            strange = [_candidate(row) for row in rows if row["id"] not in numbers]
            num += len(waiting) + self._frontier.adopt(strange, number)
        return num

    def missing(self) -> list[int]:
        """Shards that the frontier names but that don't exist."""
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
        self._syncing.start()

    def leave_out(self, ids: Sequence[str]) -> None:
        """Photos that are no longer wanted: they are left out of shards not yet sealed."""
        self._unwanted.update(ids)

    def put(self, photo: Fetched) -> None:
        """Hand over a photo; waits while too many bytes are in flight."""
        self._budget.acquire(photo.size_bytes)
        self._queue.put(photo)

    def finish(self, is_overdue: Callable[[], bool]) -> bool:
        """Write everything handed over, seal the open spool, and stop.

        Returns:
            False if it was overdue before everything was sealed: the spools stay, and the next run seals them.

        Raises:
            StoreError: the last shard can't be sealed; its spool stays and the next run seals it.
        """
        self._queue.put(None)
        self._ended.set()
        if not _joined(self._thread, is_overdue):
            return self._abandon()
        if self._is_broken:
            self._is_abandoned = True
        elif self._spool is not None:
            if not _joined(self._sealing, is_overdue):
                return self._abandon()
            self._join_sealing()
            self._start_sealing(self._spool)
        if not _joined(self._sealing, is_overdue):
            return self._abandon()
        if self._spool is not None:
            self._spool.close()
        self._join_sealing()
        return True

    def _abandon(self) -> bool:
        self._is_abandoned = True
        if self._spool is not None:
            self._spool.sync()
        return False

    def _queries_of(self, ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        if self._is_abandoned:
            raise StoreError("the shard was not written to its end", hint="run the same command again to go on")
        return self._frontier.queries_of(ids)

    def _run(self) -> None:
        is_last = False
        try:
            while not is_last:
                group = [self._queue.get()]
                while len(group) < 64 and not self._queue.empty():
                    group.append(self._queue.get())
                is_last = None in group
                self._write([photo for photo in group if photo is not None])
        except BaseException as error:
            self._is_broken = True
            self._failed(error)
            self._drain()

    def _sync(self) -> None:
        try:
            synced_at = time.monotonic()
            while not self._ended.wait(BEHIND_EVERY_S):
                spool = self._spool
                if spool is None:
                    continue
                spool.write_behind()
                if time.monotonic() - synced_at >= SYNC_EVERY_S:
                    spool.sync()
                    synced_at = time.monotonic()
        except BaseException as error:
            self._is_broken = True
            self._failed(error)

    def _drain(self) -> None:
        """Writing is impossible: release everybody who waits for room."""
        while (photo := self._queue.get()) is not None:
            self._budget.release(min(photo.size_bytes, MEMORY_CAP))

    def _write(self, group: list[Fetched]) -> None:
        try:
            left = group
            while left:
                if self._spool is None or self._spool.is_full:
                    self._turn_over()
                assert self._spool is not None
                num = _extend(self._spool, [fetched.photo for fetched in left])
                self._mark_kept([Kept(each.number, self._spool.number, each.size_bytes) for each in left[:num]])
                left = left[num:]
        finally:
            self._budget.release(sum(min(each.size_bytes, MEMORY_CAP) for each in group))

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
            self._start_sealing(full)

    def _next_number(self) -> int:
        taken = [*self._shards.numbers(), *open_numbers(self._folder), *self._frontier.shards()]
        return max(taken, default=-1) + 1

    def _start_sealing(self, spool: Spool) -> None:
        self._sealing = threading.Thread(target=self._seal, args=(spool,), name="seal", daemon=True)
        self._sealing.start()

    def _seal(self, spool: Spool) -> None:
        try:
            spool.seal(self._shards, self._queries_of, self._unwanted)
        except BaseException as error:
            if not self._is_abandoned:  # what is left in the spool then is the next run's
                self._seal_error = error

    def _join_sealing(self) -> None:
        if self._sealing is not None:
            self._sealing.join()
            self._sealing = None
        if self._seal_error is not None:
            error, self._seal_error = self._seal_error, None
            raise error


def _extend(spool: Spool, photos: Sequence[PreparedPhoto]) -> int:
    """Append them all or, where the disk is too full for all, one: those that still fit are kept."""
    try:
        return spool.extend(photos)
    except StoreError:
        if len(photos) == 1:
            raise
        return spool.extend(photos[:1])


def _joined(thread: threading.Thread | None, is_overdue: Callable[[], bool]) -> bool:
    """Wait for a thread; False if it was overdue before it ended."""
    while thread is not None and thread.is_alive():
        if is_overdue():
            return False
        thread.join(0.05)
    return True


def _candidate(row: Mapping[str, Any]) -> tuple[Candidate, int]:
    """The candidate that a photo's papers describe, and the size of its bytes."""
    papers: dict[str, Any] = {name: row[name] for name in _OF_CANDIDATE}
    papers.update({name: tuple(value) for name, value in papers.items() if isinstance(value, list)})
    query = row["queries"][0] if row["queries"] else ""
    return Candidate(**papers, query=query), row["size_bytes"]
