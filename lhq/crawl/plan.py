"""Settings → what a crawl will cost: calls, hours, bytes and disk, reckoned before anyone is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from lhq.crawl.progress import gigabytes, span
from lhq.sources import Limits, SourceSettings

# Of what a search offers, so much is new: the rest was met under another query, or fails at the door.
NEW_SHARE = 0.8
SPOOL_BYTES = 2 * 512 * 2**20
FRONTIER_BYTES = 2500


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """What one source is asked for. `hours` is the longer of its service's and its image host's time."""

    source: str
    num_photos: int
    num_calls: int
    calls_per_hour: float | None
    hours: float
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is left to do until `want` photos are kept, shared equally by the sources as far as their queries reach."""

    want: int
    num_kept: int
    num_queries: int
    sources: tuple[SourcePlan, ...]

    @property
    def hours(self) -> float:
        """Sources work side by side."""
        return max((source.hours for source in self.sources), default=0.0)

    @property
    def size_bytes(self) -> int:
        return sum(source.size_bytes for source in self.sources)

    @property
    def disk_bytes(self) -> int:
        """Photos, two shards on their way, and the frontier."""
        candidates = sum(source.num_photos for source in self.sources) / NEW_SHARE
        return self.size_bytes + (SPOOL_BYTES if self.size_bytes else 0) + int(candidates * FRONTIER_BYTES)

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "hours": self.hours, "size_bytes": self.size_bytes, "disk_bytes": self.disk_bytes}

    def text(self, free_bytes: int | None) -> str:
        """The plan for a reader, one line a source."""
        lines = [f"{self.want:,} photos wanted, {self.num_kept:,} kept already, {self.num_queries:,} queries"]
        for source in self.sources:
            limit = f" at {source.calls_per_hour:,.0f} an hour" if source.calls_per_hour else ""
            lines.append(
                f"  {source.source:<17} {source.num_photos:>9,} photos  {source.num_calls:>9,} calls{limit}  "
                f"{span(source.hours * 3600)}  {gigabytes(source.size_bytes)}"
            )
        planned = sum(source.num_photos for source in self.sources)
        if planned < self.want - self.num_kept:
            lines.append(f"  the queries reach {planned:,} photos at most: raise per_query, or add queries")
        free = f", {gigabytes(free_bytes)} free" if free_bytes is not None else ""
        lines.append(
            f"about {span(self.hours * 3600)}, {gigabytes(self.size_bytes)} to fetch, "
            f"{gigabytes(self.disk_bytes)} of disk{free}"
        )
        if free_bytes is not None and free_bytes < self.disk_bytes:
            lines.append("that is more than the disk holds")
        lines.append("reckoned from typical photo sizes and the services' published limits; nobody was asked")
        return "\n".join(lines)


def plan(want: int, num_kept: int, num_queries: int, sources: Mapping[str, tuple[Limits, SourceSettings]]) -> Plan:
    """Share what is left among the sources and reckon each.

    Args:
        sources: name → (what the source is like, what its table says).
    """
    left = max(0, want - num_kept)
    shares: dict[str, int] = {}
    # Sources whose queries reach less go first; the others take what they leave.
    reach = {name: num_queries * settings.per_query for name, (_, settings) in sources.items()}
    for i, name in enumerate(sorted(reach, key=lambda name: reach[name])):
        shares[name] = min(reach[name], math.ceil(left / (len(reach) - i)))
        left -= shares[name]
    return Plan(
        want,
        num_kept,
        num_queries,
        tuple(
            _one(name, shares[name], num_queries, limits, settings.calls_per_hour)
            for name, (limits, settings) in sources.items()
        ),
    )


def _one(name: str, num_photos: int, num_queries: int, limits: Limits, calls_per_hour: float | None) -> SourcePlan:
    per_query = num_photos / NEW_SHARE / max(1, num_queries)
    pages = math.ceil(per_query / limits.page_size) * num_queries if num_photos and limits.page_size else 0
    calls = pages + num_photos * limits.calls_per_kept
    hours = calls / calls_per_hour if calls_per_hour else 0.0
    hours = max(hours, num_photos / NEW_SHARE / limits.photos_per_s / 3600)
    return SourcePlan(name, num_photos, calls, calls_per_hour, hours, num_photos * limits.photo_bytes)
