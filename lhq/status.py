"""Frontier, verdicts and export → the funnel: what became of every candidate, so that the sums are exact."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import pyarrow.compute as pc

from lhq import verdicts
from lhq.crawl import FRONTIER
from lhq.crawl.progress import gigabytes, span
from lhq.frontier import Frontier, Listed, QueryTally


@dataclass(frozen=True, slots=True)
class Status:
    """The state of one store.

    `num_candidates` = waiting + kept + failed, and each of those is the sum of its own parts: `waiting_after` and
    `failed` by reason (of the last attempt), `kept` by licence. `judged` are kept photos by the filter's verdict
    ("" = passed), None before the first `lhq filter`; `num_unjudged` are kept since. Times are seconds.
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
        return {**asdict(self), "num_kept": self.num_kept, "num_waiting": self.num_waiting,
                "num_failed": self.num_failed}  # fmt: skip

    def table(self, *, with_queries: bool = False) -> str:
        """The funnel for a reader."""
        lines = [
            f"candidates {self.num_candidates:,} = kept {self.num_kept:,} + waiting {self.num_waiting:,} "
            f"+ failed {self.num_failed:,}",
            f"kept       {self.num_kept:,} of {self.want:,} wanted, {gigabytes(self.size_bytes)}{self._pace()}",
        ]
        for name, counts in self.sources.items():
            lines.append(f"  {name:<18}" + " · ".join(f"{status} {num:,}" for status, num in counts.items()))
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
            lines.append(f"{'judged':<20}{' · '.join(words)}")
        states = Counter(query.state for query in self.queries)
        lines.append(f"{'queries':<20}" + " · ".join(f"{state} {num:,}" for state, num in states.items()))
        for query in self.queries:
            if with_queries or query.error:
                total = f" of {query.total:,}" if query.total is not None else ""
                error = f" · {query.error}" if query.error else ""
                lines.append(
                    f"  {query.source:<18}{query.query:<32} {query.state:<7} pages {query.num_pages} · "
                    f"offered {query.offered:,}{total} · kept {query.kept:,}{error}"
                )
        return "\n".join(lines)

    def _pace(self) -> str:
        if not self.photos_per_s:
            return ""
        left = f", {span(self.left_s)} left" if self.left_s else ""
        return f", {self.photos_per_s:.2g}/s now{left}"


def status(store: str, folder: str, want: int) -> Status:
    """The state of a store, also while a crawl is at work on it.

    Raises:
        StoreError: no crawl was started here.
        ShardDamaged: the verdicts are there but can't be read.
    """
    frontier = Frontier(posixpath.join(folder, FRONTIER), read_only=True)
    try:
        waiting, kept, failed = Counter[str](), Counter[str](), Counter[str]()
        sources: dict[str, Counter[str]] = {}
        size_bytes = 0
        for tally in frontier.tallies():
            sources.setdefault(tally.source, Counter())[tally.status] += tally.num
            if tally.status == "kept":
                kept[tally.licence] += tally.num
                size_bytes += tally.size_bytes
            else:
                (failed if tally.status == "failed" else waiting)[tally.reason] += tally.num
        rate = frontier.rate()
        num_kept = kept.total()
        judged = _judged(store)
        return Status(
            want=want,
            num_candidates=waiting.total() + num_kept + failed.total(),
            waiting=_sorted(waiting),
            kept=_sorted(kept),
            failed=_sorted(failed),
            sources={name: dict(counts) for name, counts in sources.items()},
            queries=tuple(frontier.query_tallies()),
            skipped=_sorted(frontier.skipped()),
            size_bytes=size_bytes,
            num_reports_due=frontier.num_reports_due(),
            photos_per_s=rate,
            left_s=(want - num_kept) / rate if rate and want > num_kept else None,
            judged=judged,
            num_unjudged=max(0, num_kept - sum(judged.values())) if judged is not None else 0,
        )
    finally:
        frontier.close()


def listing(folder: str, statuses: Sequence[str], reasons: Sequence[str], sources: Sequence[str]) -> Iterator[Listed]:
    """Candidates in the order of offers, narrowed by what is given; flat memory.

    Raises:
        StoreError: no crawl was started here.
    """
    frontier = Frontier(posixpath.join(folder, FRONTIER), read_only=True)
    try:
        yield from frontier.listing(statuses, reasons, sources)
    finally:
        frontier.close()


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(counts.most_common())


def _judged(store: str) -> dict[str, int] | None:
    """Photos by the reason of their verdict, or None where nothing was judged yet."""
    found = verdicts.read(store, ["reason"])
    if found is None:
        return None
    counts = pc.value_counts(found["reason"])
    return {row["values"]: row["counts"] for row in sorted(counts.to_pylist(), key=lambda row: -row["counts"])}
