"""Settings → what a crawl will cost: calls, hours, bytes and disk, estimated before any request.

Hours are a range: from the pace that a source's hosts allow on a good day to that of a bad one. Figures measured in the
store (photo size, and the pace once it has run for a while) replace the typical ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from lhq.crawl.progress import gigabytes, span
from lhq.records import ALL
from lhq.sources import Limits, SourceSettings

# Share of search results that are new: the rest was found by another query, or fails the checks.
NEW_SHARE = 0.8
NEW_SHARE_AT_WORST = 0.5
SPOOL_BYTES = 2 * 512 * 2**20
FRONTIER_BYTES = 2500
# A measured pace is used after this many photos and seconds of work.
LEAST_PHOTOS = 100
LEAST_S = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a store has seen already: photos kept and their bytes by source, and how long the crawls were at work."""

    num_kept: Mapping[str, int]
    size_bytes: Mapping[str, int]
    num_timed: int
    worked_s: float

    @property
    def photos_per_s(self) -> float | None:
        """The pace so far, None until enough was measured."""
        is_enough = self.num_timed >= LEAST_PHOTOS and self.worked_s >= LEAST_S
        return self.num_timed / self.worked_s if is_enough else None


NOTHING_SEEN = Seen({}, {}, 0, 0.0)


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """What one source is asked for. `hours`, `hours_at_worst` are the longer of its service's and its image host's
    time; `is_bound_by_calls` where it is the service's. `hours_with_most_calls` is None where no key allows more."""

    source: str
    num_photos: int
    num_calls: int
    calls_per_hour: float | None
    hours: float
    hours_at_worst: float
    size_bytes: int
    is_bound_by_calls: bool
    most_calls_per_hour: float | None
    hours_with_most_calls: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is left to do until `want` photos are kept, shared equally by the sources as far as their queries reach."""

    want: int
    num_kept: int
    num_queries: int
    sources: tuple[SourcePlan, ...]
    seen_per_s: float | None = None

    @property
    def num_planned(self) -> int:
        return sum(source.num_photos for source in self.sources)

    @property
    def hours(self) -> float:
        """Sources work side by side; where the pace is known, it counts."""
        if self.seen_per_s:
            return self.num_planned / self.seen_per_s / 3600
        return max((source.hours for source in self.sources), default=0.0)

    @property
    def hours_at_worst(self) -> float:
        if self.seen_per_s:
            return 1.5 * self.hours
        return max((source.hours_at_worst for source in self.sources), default=0.0)

    @property
    def size_bytes(self) -> int:
        return sum(source.size_bytes for source in self.sources)

    @property
    def disk_bytes(self) -> int:
        """Photos, two shards on their way, and the frontier."""
        candidates = self.num_planned / NEW_SHARE
        return self.size_bytes + (SPOOL_BYTES if self.size_bytes else 0) + int(candidates * FRONTIER_BYTES)

    def as_json(self) -> dict[str, object]:
        return {
            **asdict(self),
            "hours": self.hours,
            "hours_at_worst": self.hours_at_worst,
            "size_bytes": self.size_bytes,
            "disk_bytes": self.disk_bytes,
        }

    def text(self, free_bytes: int | None) -> str:
        """The plan for a reader, one line a source."""
        if self.want >= ALL:
            free = f"; {gigabytes(free_bytes)} free on the store's disk" if free_bytes is not None else ""
            return f"all photos of {', '.join(one.source for one in self.sources)}, read in place: no calls{free}"
        queries = f", {self.num_queries:,} queries" if self.num_queries else ""
        lines = [f"{self.want:,} photos wanted, {self.num_kept:,} kept already{queries}"]
        for source in self.sources:
            lines += _source_lines(source)
        if self.num_planned < self.want - self.num_kept:
            lines.append(f"  the queries reach {self.num_planned:,} photos at most: raise per_query, or add queries")
        free = f", {gigabytes(free_bytes)} free" if free_bytes is not None else ""
        lines.append(
            f"{between(self.hours, self.hours_at_worst)}, {gigabytes(self.size_bytes)} to fetch, "
            f"{gigabytes(self.disk_bytes)} of disk{free}"
        )
        if free_bytes is not None and free_bytes < self.disk_bytes:
            lines.append("that is more than the disk holds")
        if self.seen_per_s:
            lines.append(f"reckoned from the pace of this store's crawls so far ({self.seen_per_s:.2g} photos/s)")
        else:
            lines.append("reckoned from typical photo sizes and the services' published limits; nobody was asked")
        return "\n".join(lines)


def between(hours: float, hours_at_worst: float) -> str:
    """A range of time in words; one figure where both read the same."""
    least, most = span(hours * 3600), span(hours_at_worst * 3600)
    return f"about {least}" if least == most else f"{least} to {most}"


def plan(
    want: int,
    num_kept: int,
    num_queries: int,
    sources: Mapping[str, tuple[Limits, SourceSettings]],
    seen: Seen = NOTHING_SEEN,
) -> Plan:
    """Share what is left among the sources and estimate each.

    Args:
        num_queries: those of the pipeline file; a source that is read in place has one of its own.
        sources: name → (what the source is like, what its table says).
    """
    left = max(0, want - num_kept)
    shares: dict[str, int] = {}
    # Sources whose queries reach less go first; the others take what they leave.
    reach = {name: max(1, num_queries) * settings.per_query for name, (_, settings) in sources.items()}
    for i, name in enumerate(sorted(reach, key=lambda name: reach[name])):
        shares[name] = min(reach[name], math.ceil(left / (len(reach) - i)))
        left -= shares[name]
    planned = tuple(
        _one(name, shares[name], num_queries, limits, settings.calls_per_hour, seen)
        for name, (limits, settings) in sources.items()
    )
    return Plan(want, num_kept, num_queries, planned, seen.photos_per_s)


def _one(
    name: str, num_photos: int, num_queries: int, limits: Limits, calls_per_hour: float | None, seen: Seen
) -> SourcePlan:
    def calls(new_share: float) -> int:
        per_query = num_photos / new_share / max(1, num_queries)
        pages = math.ceil(per_query / limits.page_size) * num_queries if num_photos and limits.page_size else 0
        return pages + num_photos * limits.calls_per_kept

    def hours_of_calls(new_share: float, per_hour: float | None) -> float:
        return calls(new_share) / per_hour if per_hour else 0.0

    def fetched(new_share: float, photos_per_s: float) -> float:
        return num_photos / new_share / photos_per_s / 3600

    slow = limits.slow_photos_per_s or limits.photos_per_s / 2
    by_calls, by_photos = hours_of_calls(NEW_SHARE, calls_per_hour), fetched(NEW_SHARE, limits.photos_per_s)
    num_seen = seen.num_kept.get(name, 0)
    photo_bytes = seen.size_bytes[name] / num_seen if num_seen >= LEAST_PHOTOS else limits.photo_bytes
    most = limits.most_calls_per_hour if by_calls > by_photos and calls_per_hour else None
    is_more = most is not None and calls_per_hour is not None and most > calls_per_hour
    return SourcePlan(
        source=name,
        num_photos=num_photos,
        num_calls=calls(NEW_SHARE),
        calls_per_hour=calls_per_hour,
        hours=max(by_calls, by_photos),
        hours_at_worst=max(hours_of_calls(NEW_SHARE_AT_WORST, calls_per_hour), fetched(NEW_SHARE_AT_WORST, slow)),
        size_bytes=int(num_photos * photo_bytes),
        is_bound_by_calls=by_calls > by_photos,
        most_calls_per_hour=most if is_more else None,
        hours_with_most_calls=max(hours_of_calls(NEW_SHARE, most), by_photos) if is_more else None,
    )


def _source_lines(source: SourcePlan) -> list[str]:
    limit = f" at {source.calls_per_hour:,.0f} an hour" if source.calls_per_hour else ""
    lines = [
        f"  {source.source:<17} {source.num_photos:>9,} photos  {source.num_calls:>9,} calls{limit}  "
        f"{between(source.hours, source.hours_at_worst)}  {gigabytes(source.size_bytes)}"
    ]
    if source.is_bound_by_calls:
        other = ""
        if source.hours_with_most_calls is not None and source.most_calls_per_hour is not None:
            key = f"a key with {source.most_calls_per_hour:,.0f} calls an hour"
            other = f"; {span(source.hours_with_most_calls * 3600)} with {key}"
        lines.append(f"    its calls take the time: calls_per_hour = {source.calls_per_hour:,.0f} in its table{other}")
    return lines
