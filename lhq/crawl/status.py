"""Frontier, photos and verdicts → the funnel: what became of every candidate, so that the sums are exact.

Photos that no crawl fetched (imported, rehydrated) are in no frontier before the next crawl: they are counted where
they lie. A store that was never crawled has a funnel too.
"""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lhq.crawl import FRONTIER
from lhq.crawl.frontier import Frontier, Listed, QueryTally, Tally
from lhq.crawl.plan import NOTHING_SEEN, Seen, between
from lhq.crawl.progress import gigabytes, span
from lhq.crawl.reasons import check
from lhq.crawl.spool import open_numbers
from lhq.errors import NotCrawled
from lhq.http import clean
from lhq.records import ALL
from lhq.store import tombstones, verdicts
from lhq.store.shards import Shards


@dataclass(frozen=True, slots=True)
class Status:
    """The state of one store.

    `num_candidates` = waiting + kept + failed, and each of those is the sum of its own parts: `waiting_after` and
    `failed` by reason (of the last attempt), `kept` by licence. `judged` are kept photos by the filter's verdict
    ("" = passed), None before the first `lhq filter`; with it, kept = judged + `num_unjudged` (since the last
    `lhq filter`) + `num_gone` (in shards that are not there any more). `plan` is the last crawl's, and what happened
    since: `num_new`, `worked_s`, `new_bytes`. Times are seconds.
    """

    want: int
    num_candidates: int
    waiting: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    sources: dict[str, dict[str, int]] = field(default_factory=dict)
    queries: tuple[QueryTally, ...] = ()
    skipped: dict[str, int] = field(default_factory=dict)
    size_bytes: int = 0
    num_reports_due: int = 0
    photos_per_s: float | None = None
    left_s: float | None = None
    judged: dict[str, int] | None = None
    num_unjudged: int = 0
    num_gone: int = 0
    plan: dict[str, Any] | None = None

    @property
    def num_kept(self) -> int:
        return sum(self.kept.values())

    @property
    def num_waiting(self) -> int:
        return sum(self.waiting.values())

    @property
    def num_failed(self) -> int:
        return sum(self.failed.values())

    def as_json(self) -> dict[str, object]:
        """Everything, with names that stay."""
        return {
            **asdict(self),
            "want": self.want if self.want < ALL else None,
            "num_kept": self.num_kept,
            "num_waiting": self.num_waiting,
            "num_failed": self.num_failed,
        }

    def table(self, *, with_queries: bool = False) -> str:
        """The funnel for a reader."""
        lines = [
            f"candidates {self.num_candidates:,} = kept {self.num_kept:,} + waiting {self.num_waiting:,} "
            f"+ failed {self.num_failed:,}",
            f"kept       {self.num_kept:,}{self._of_all()}, {gigabytes(self.size_bytes)}{self._pace()}",
        ]
        lines += self._against_the_plan()
        for name, counts in self.sources.items():
            words = [f"{status} {counts[status]:,}" for status in ("kept", "waiting", "failed") if status in counts]
            lines.append(f"  {name:<18}" + " · ".join(words))
        for title, counts in (("by licence", self.kept), ("waiting after", self.waiting), ("failed", self.failed)):
            words = [f"{reason or 'nothing yet'} {num:,}" for reason, num in counts.items()]
            if words:
                lines.append(f"{title:<20}{' · '.join(words)}")
        if self.skipped:
            lines.append(f"{'not taken':<20}" + " · ".join(f"{reason} {num:,}" for reason, num in self.skipped.items()))
        if self.num_reports_due:
            lines.append(f"{'reports of use':<20}{self.num_reports_due:,} still to be sent")
        if self.judged is None:
            lines.append("judged              nothing yet: lhq filter")
        else:
            words = [f"{reason or 'passed'} {num:,}" for reason, num in self.judged.items()]
            words += [f"not judged yet {self.num_unjudged:,}"] if self.num_unjudged else []
            words += [f"gone {self.num_gone:,}"] if self.num_gone else []
            lines.append(f"{'judged':<20}{' · '.join(words)}")
        if self.num_gone:
            lines.append(
                f"{'gone':<20}{self.num_gone:,} lay in shards that are not in photos/ any more: "
                "lhq crawl --retry-failed damaged fetches them again"
            )
        states = Counter(query.state for query in self.queries)
        if states:
            lines.append(f"{'queries':<20}" + " · ".join(f"{state} {num:,}" for state, num in states.items()))
        for query in self.queries:
            if with_queries or query.error:
                total = f" of {query.total:,}" if query.total is not None else ""
                error = f" · {query.error}" if query.error else ""
                lines.append(
                    f"  {query.source:<18}{clean(query.query):<32} {query.state:<7} pages {query.num_pages} · "
                    f"offered {query.offered:,}{total} · kept {query.kept:,}{clean(error)}"
                )
        return "\n".join(lines)

    def _against_the_plan(self) -> list[str]:
        """The last crawl's plan, compared with what happened."""
        if self.plan is None:
            return []
        at = datetime.fromtimestamp(self.plan["at"], UTC).strftime("%Y-%m-%d %H:%M")
        time_s = between(self.plan["hours"], self.plan["hours_at_worst"])
        num = self.plan["want"] - self.plan["num_kept"]
        if self.plan["want"] >= ALL:
            return []
        return [
            f"planned    {num:,} more photos in {time_s}, {gigabytes(self.plan['size_bytes'])} ({at} UTC)",
            f"since then {self.plan['num_new']:,} in {span(self.plan['worked_s'])} of work, "
            f"{gigabytes(self.plan['new_bytes'])}",
        ]

    def _of_all(self) -> str:
        return f" of {self.want:,} wanted" if self.want < ALL else ""

    def _pace(self) -> str:
        if not self.photos_per_s:
            return ""
        left = f", {span(self.left_s)} left" if self.left_s else ""
        return f", {self.photos_per_s:.2g}/s now{left}"


def status(store: str, folder: str, want: int) -> Status:
    """The state of a store, also while a crawl is at work on it.

    Raises:
        NotCrawled: no crawl was started here, and no photo was imported.
        StoreError: the frontier can't be read.
        ShardDamaged: the verdicts are there but can't be read.
    """
    with _opened(store, folder) as (frontier, numbers), frontier.at_one_moment() if frontier else nullcontext():
        tallies = frontier.tallies() if frontier else []
        tallies += [
            Tally(row["source"], "kept", "", row["licence"], 1, row["size_bytes"])
            for row, _ in _strangers(store, frontier, numbers)
        ]
        waiting, kept, failed = Counter[str](), Counter[str](), Counter[str]()
        sources: dict[str, Counter[str]] = {}
        size_bytes = 0
        for tally in tallies:
            sources.setdefault(tally.source, Counter())[tally.status] += tally.num
            if tally.status == "kept":
                kept[tally.licence] += tally.num
                size_bytes += tally.size_bytes
            else:
                (failed if tally.status == "failed" else waiting)[tally.reason] += tally.num
        # Looked for after the frontier was read: a spool that a crawl opened meanwhile is not gone.
        there = {*open_numbers(folder), *Shards(store, "photos").numbers()}
        gone = [number for number in (frontier.shards() if frontier else []) if number not in there]
        num_gone = sum(len(frontier.kept_in(number)) for number in gone) if frontier else 0
        judged = _judged(store, there)
        rate = frontier.rate() if frontier else None
        num_kept = kept.total()
        return Status(
            want=want,
            num_candidates=waiting.total() + num_kept + failed.total(),
            waiting=_sorted(waiting),
            kept=_sorted(kept),
            failed=_sorted(failed),
            sources={name: dict(counts) for name, counts in sources.items()},
            queries=tuple(frontier.query_tallies()) if frontier else (),
            skipped=_sorted(frontier.skipped()) if frontier else {},
            size_bytes=size_bytes,
            num_reports_due=frontier.num_reports_due() if frontier else 0,
            photos_per_s=rate,
            left_s=(want - num_kept) / rate if rate and ALL > want > num_kept else None,
            judged=judged,
            num_unjudged=num_kept - num_gone - sum(judged.values()) if judged is not None else 0,
            num_gone=num_gone,
            plan=_since_the_plan(frontier, size_bytes) if frontier else None,
        )


def seen(store: str, folder: str) -> Seen:
    """What the crawls of a store have seen; nothing where there was none."""
    try:
        with _opened(store, folder) as (frontier, _):
            if frontier is None:
                return NOTHING_SEEN
            num_kept, size_bytes = Counter[str](), Counter[str]()
            for tally in frontier.tallies():
                if tally.status == "kept":
                    num_kept[tally.source] += tally.num
                    size_bytes[tally.source] += tally.size_bytes
            return Seen(num_kept, size_bytes, *frontier.worked())
    except NotCrawled:
        return NOTHING_SEEN


def _since_the_plan(frontier: Frontier, size_bytes: int) -> dict[str, Any] | None:
    found = frontier.last_plan()
    if found is None:
        return None
    at, plan = found
    num_new, worked_s = frontier.worked(at)
    new_bytes = max(0, size_bytes - int(plan.get("kept_bytes", 0)))
    return {**plan, "at": at, "num_new": num_new, "worked_s": worked_s, "new_bytes": new_bytes}


def listing(
    store: str, folder: str, statuses: Sequence[str], reasons: Sequence[str], sources: Sequence[str]
) -> Iterator[Listed]:
    """Candidates in the order of offers, then photos that no crawl fetched, narrowed by what is given.

    Raises:
        InputError: a reason that no candidate can have, nor has.
        NotCrawled: no crawl was started here, and no photo was imported.
        StoreError: the frontier can't be read.
    """
    with _opened(store, folder) as (frontier, numbers):
        met = {tally.reason for tally in frontier.tallies()} if frontier and reasons else set()
        check(reason for reason in reasons if reason not in met)
        if frontier is not None:
            yield from frontier.listing(statuses, reasons, sources)
        if reasons or (statuses and "kept" not in statuses):
            return
        for row, number in _strangers(store, frontier, numbers):
            if not sources or row["source"] in sources:
                yield Listed(row["id"], "kept", "", 0, row["licence"], number)


@contextmanager
def _opened(store: str, folder: str) -> Iterator[tuple[Frontier | None, list[int]]]:
    """The frontier for reading, None where there is none; and the shards that were there before it."""
    numbers = Shards(store, "photos").numbers()
    path = posixpath.join(folder, FRONTIER)
    if numbers and not os.path.exists(path):
        yield None, numbers
        return
    frontier = Frontier(path, read_only=True)
    try:
        yield frontier, numbers
    finally:
        frontier.close()


def _strangers(store: str, frontier: Frontier | None, numbers: Sequence[int]) -> Iterator[tuple[dict[str, Any], int]]:
    """(papers, shard) of photos that the frontier has never heard of and nobody took down."""
    known = set(frontier.shards()) if frontier else set()
    removed = tombstones.removed_ids(store)
    for number in numbers:
        if number in known:
            continue
        rows = Shards(store, "photos").read(number, ["id", "source", "licence", "size_bytes"]).to_pylist()
        met = frontier.numbers_of([row["id"] for row in rows]) if frontier else {}
        yield from ((row, number) for row in rows if row["id"] not in met and row["id"] not in removed)


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(counts.most_common())


def _judged(store: str, there: set[int]) -> dict[str, int] | None:
    """Photos of these shards that nobody took down, by the reason of their verdict; None before the first filter."""
    found = verdicts.read(store, ["id", "shard", "reason"])
    if found is None:
        return None
    removed = pa.array(sorted(tombstones.removed_ids(store)), pa.string())
    is_here = pc.is_in(found["shard"], pa.array(sorted(there), pa.int32()))
    counts = pc.value_counts(found.filter(pc.and_(is_here, pc.invert(pc.is_in(found["id"], removed))))["reason"])
    return {row["values"]: row["counts"] for row in sorted(counts.to_pylist(), key=lambda row: -row["counts"])}
