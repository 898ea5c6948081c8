"""Query → candidate → photo: search, fetch and keep, until enough photos are in the store.

To go on after any stop, run it again: the frontier knows what was asked, the spool holds what was fetched. One
crawl a store: a second is refused with the first one's process number.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from lhq.crawl.fetch import Fetcher, KeptOut
from lhq.crawl.frontier import Frontier
from lhq.crawl.placeholders import REASON as PLACEHOLDER
from lhq.crawl.placeholders import Placeholders
from lhq.crawl.progress import Progress
from lhq.crawl.refetch import refetch
from lhq.crawl.search import Searcher
from lhq.crawl.work import WorkQueue
from lhq.crawl.writer import PhotoWriter
from lhq.errors import LhqError, SourceError
from lhq.http import Client
from lhq.progress import OnProgress, silent
from lhq.records import ALL, Candidate, Query
from lhq.sources import Source
from lhq.store.shards import Shards
from lhq.store.tombstones import removed_ids, removed_sha256

# Seconds after a request to stop: downloads in flight may finish by themselves, then they are cut; then the last shard
# is written, or its photos wait in the spool for the next run. Stopping takes no longer than the last of these.
WIRE_S = 1.5
CUT_S = 2.5
WRITE_S = 3.5
FRONTIER = "frontier.sqlite"
DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class CrawlReport:
    """What a crawl did. `problems` are those of sources that gave up while others went on; `num_lost` of the kept
    photos are not in `photos/`, though the frontier says so."""

    num_kept: int
    num_new: int
    want: int
    is_stopped: bool
    failures: Mapping[str, int]
    problems: tuple[LhqError, ...]
    notes: tuple[str, ...]
    num_lost: int = 0

    @property
    def exit_code(self) -> int:
        """130 if someone stopped it; else that of the first source that gave up; else 1 if photos are lost, or 0."""
        if self.is_stopped:
            return 130
        return self.problems[0].exit_code if self.problems else int(self.num_lost > 0)

    def as_json(self) -> dict[str, object]:
        """The report in JSON's types."""
        return {
            "kept": self.num_kept,
            "new": self.num_new,
            "lost": self.num_lost,
            "want": self.want if self.want < ALL else None,
            "stopped": self.is_stopped,
            "failures": dict(self.failures),
            "problems": [str(problem) for problem in self.problems],
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """What to tell at the end, the funnel last."""
        lines = [*self.notes, *(f"a source gave up: {problem}" for problem in self.problems)]
        if self.is_stopped:
            lines.append("stopped; run the same command again to go on")
        elif self.num_kept < self.want < ALL and not self.problems:
            lines.append("the sources have no more for these queries: add queries, or raise per_query")
        failed = [f"{reason} {num:,}" for reason, num in sorted(self.failures.items(), key=lambda pair: -pair[1])]
        of = f" of {self.want:,}" if self.want < ALL else ""
        funnel = [f"kept {self.num_kept:,}{of}", f"new {self.num_new:,}"]
        if self.num_lost:
            funnel.insert(1, f"lost {self.num_lost:,} of these")
        return [*lines, " · ".join([*funnel, *(f"failed attempts: {', '.join(failed)}" for _ in failed[:1])])]


@dataclass(frozen=True)
class CrawlJob:
    """What one crawl is to do.

    `store` is where `photos/` is written (a folder or URL), `folder` the local folder of frontier and spool. `want` is
    how many photos the store shall hold in all.

    `retry` are reasons of failed candidates that are to be tried again; "all" for every reason. "damaged" means the
    photos of shards that are gone from `photos/`: moved to `quarantine/`, or lost. Kept photos whose facts name the
    reason as their error (`corrupt`) are fetched again into their place. `planned` is the plan of this crawl, which
    `lhq status` holds against what happened.
    """

    store: str
    folder: str
    sources: Mapping[str, Source]
    queries: Sequence[Query]
    want: int
    retry: Sequence[str] = ()
    planned: Mapping[str, object] | None = None


def crawl(job: CrawlJob, client: Client, *, on_progress: OnProgress = silent) -> CrawlReport:
    """Fetch photos until the store holds as many as wanted or the sources run out.

    The caller holds `lhq.store.lock.locked(job.folder, "crawl")`.

    Args:
        on_progress: called five times a second with the crawl's progress.

    Raises:
        StoreError: the store can't be reached or written, or is of a newer format.
        SourceError: no source offered anything.
    """
    Shards(job.store, "photos").numbers()  # a store that can't be reached is an error before any request
    frontier = Frontier(Path(job.folder) / FRONTIER)
    try:
        if job.planned is not None:
            frontier.add_plan(job.planned)
        return _Crawl(job, client, frontier).run(on_progress)
    finally:
        frontier.close()


class _Crawl:
    """One run: the threads and their end."""

    def __init__(self, job: CrawlJob, client: Client, frontier: Frontier) -> None:
        self._store, self._sources, self._queries, self._want = job.store, job.sources, job.queries, job.want
        self._retry = job.retry
        self._placeholders = Placeholders(job.store, frontier)
        self._removed_ids = removed_ids(job.store)
        self._client, self._frontier = client, frontier
        self._notes: list[str] = []
        self._num_lost = 0
        self._is_started = False
        self._stopped_at: float | None = None
        self._work = WorkQueue(frontier, client, job.want, job.sources)
        self._writer = PhotoWriter(
            job.folder, Shards(job.store, "photos"), frontier, self._work.kept, self._work.crashed
        )

    def run(self, on_progress: OnProgress) -> CrawlReport:
        work, client = self._work, self._client
        with _signals(client, lambda: self._is_started):
            self._prepare(self._retry)
            kept_out = KeptOut(removed_sha256(self._store), self._placeholders)
            fetcher = Fetcher(work, self._writer, self._frontier, client, self._sources, kept_out)
            searchers = [
                Searcher(source, self._queries, self._frontier, client, work, self._removed_ids)
                for source in self._sources.values()
            ]
            progress = Progress(work, client, self._want, on_progress)
            self._is_started = True
            self._writer.start()
            fetcher.start()
            for searcher in searchers:
                searcher.thread.start()
            try:
                self._watch(searchers, progress)
            finally:
                work.close()
                self._end(fetcher, searchers, progress)
        crash = work.crash or next((searcher.crash for searcher in searchers if searcher.crash), None)
        if crash is not None:
            raise crash
        return self._report(searchers)

    def _prepare(self, retry: Sequence[str]) -> None:
        lost = self._writer.recover()
        if lost:
            self._notes.append(f"{lost:,} photos did not survive the last stop and are fetched again")
        found = self._writer.compare()
        self._notes += found.unreadable
        if found.num_adopted:
            self._notes.append(
                f"{found.num_adopted:,} photos are here that no crawl fetched, or whose frontier was lost: kept"
            )
        for number, ids in found.lacking.items():
            what = f"photos/{number:06d}.parquet is an older copy, or of another store than the frontier: it lacks"
            self._notes.append(self._lost(what, number, ids))
        for number in self._writer.missing():
            ids = self._frontier.kept_in(number)
            self._notes.append(self._lost(f"photos/{number:06d}.parquet is gone with", number, ids))
        reasons = [reason for reason in retry if reason != "all"]
        if reasons:
            failed = {tally.reason for tally in self._frontier.tallies() if tally.status == "failed"}
            done = refetch(self._store, reasons, self._candidates_of, self._bytes_of)
            if done.num_fresh or done.num_same or done.num_failed:
                self._notes.append(
                    f"{done.num_fresh:,} broken photos have fresh bytes (lhq filter measures their shards again), "
                    f"{done.num_same:,} come as broken as before, {done.num_failed:,} could not be had"
                )
            elif unheard := [reason for reason in reasons if reason not in {*failed, DAMAGED}]:
                self._notes.append(f"no photo failed for {', '.join(unheard)}: lhq status shows the reasons there are")
        if retry:
            self._notes.append(f"{self._frontier.retry(retry):,} failed candidates wait again")
        self._frontier.retry(("throttled",))  # the last run postponed them
        self._frontier.refuse(sorted(self._removed_ids - self._placeholders.ids), "removed")
        self._frontier.refuse(sorted(self._placeholders.ids), PLACEHOLDER)
        self._work.has_already(sum(tally.num for tally in self._frontier.tallies() if tally.status == "kept"))

    def _lost(self, what: str, number: int, ids: Sequence[str]) -> str:
        """Let photos wait again that are lost, if that was asked for; returns what to tell."""
        if DAMAGED in self._retry:
            return f"{self._frontier.lose(ids, DAMAGED):,} photos of shard {number:06d} wait again"
        self._num_lost += len(ids)
        return f"{what} {len(ids):,} photos; --retry-failed {DAMAGED} fetches them again"

    def _candidates_of(self, ids: Sequence[str]) -> list[Candidate]:
        found = self._frontier.candidates_of(ids)
        return [each for each in found if each.source in self._sources and not self._client.is_stopped()]

    def _bytes_of(self, candidate: Candidate) -> bytes | bytearray:
        source = self._sources[candidate.source]
        return source.read(candidate) if source.is_local else self._client.fetch(candidate.url).body

    def _watch(self, searchers: list[Searcher], progress: Progress) -> None:
        """Run until enough is kept, nothing is left, or the user stops it."""
        while not self._client.is_stopped() and self._work.crash is None and self._work.need() > 0:
            progress.update()
            for searcher in searchers:
                searcher.wake()
                if searcher.crash is not None:
                    return
            with self._work.changed:
                self._work.changed.wait(0.2)
            self._uncover()
            if any(searcher.has_pages for searcher in searchers) or not self._work.is_idle():
                continue
            if self._frontier.next_due(tuple(self._sources)) is None:
                return
            if self._work.is_hopeless():
                self._notes.append("the photos that wait are on hosts that turn everybody away: run again later")
                return

    def _uncover(self) -> None:
        """Photos kept before they were recognised as placeholders become failures, and their places are freed."""
        ids = self._placeholders.uncover()
        if ids:
            self._writer.leave_out(ids)
            self._work.uncovered(len(ids))

    def _end(self, fetcher: Fetcher, searchers: list[Searcher], progress: Progress) -> None:
        """Let downloads in flight finish, for a few seconds if the user asked to stop; then close the files."""
        if self._work.crash is not None:
            self._client.stop()
        elif self._work.need() <= 0:
            self._client.abort_photos()  # one may still wait for a slow host, and is no longer needed
        if not fetcher.join(lambda: self._stopped_for(WIRE_S)):
            self._client.abort()
            fetcher.join(lambda: self._stopped_for(CUT_S))
        self._uncover()
        if not self._writer.finish(lambda: self._stopped_for(WRITE_S)):
            self._notes.append("the last photos lie in the spool: the next run writes their shard")
        self._uncover()
        for searcher in searchers:
            searcher.finish()
        while any(searcher.thread.is_alive() for searcher in searchers) and not self._stopped_for(WRITE_S):
            progress.update("telling the sources what was kept")
            if self._stopped_for(WIRE_S):
                self._client.abort()
            time.sleep(0.02)
        self._client.close()

    def _stopped_for(self, seconds: float) -> bool:
        """Did the user ask to stop at least that long ago?"""
        if self._client.is_stopped() and self._stopped_at is None:
            self._stopped_at = time.monotonic()
        return self._stopped_at is not None and time.monotonic() - self._stopped_at > seconds

    def _report(self, searchers: list[Searcher]) -> CrawlReport:
        problems = tuple(searcher.problem for searcher in searchers if searcher.problem is not None)
        num_kept = sum(tally.num for tally in self._frontier.tallies() if tally.status == "kept")
        if not problems and not self._frontier.tallies() and not self._client.is_stopped():
            raise SourceError(
                f"no source offered a photo for {len(self._queries):,} queries",
                hint="look at lhq status PIPELINE, and try wider queries or licences",
            )
        return CrawlReport(
            num_kept,
            self._work.num_new,
            self._want,
            self._client.is_stopped(),
            dict(self._work.failures),
            problems,
            tuple(self._notes),
            self._num_lost,
        )


@contextlib.contextmanager
def _signals(client: Client, is_started: Callable[[], bool]) -> Iterator[None]:
    """First Ctrl-C or SIGTERM: stop cleanly; at once while nothing was started yet. Second: at once in any case, which
    loses only downloads in flight.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if client.is_stopped():
            os._exit(130)
        client.stop()
        if not is_started():
            raise KeyboardInterrupt

    before: list[tuple[signal.Signals, Callable[..., object] | int | None]] = [
        (sign, signal.signal(sign, handle)) for sign in (signal.SIGINT, signal.SIGTERM)
    ]
    try:
        yield
    finally:
        for sign, handler in before:
            signal.signal(sign, handler)
