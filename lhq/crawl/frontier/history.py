"""The frontier's read side: the tallies and lists that `lhq status` and `lhq list` show."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lhq.crawl.frontier.database import Database
from lhq.crawl.reasons import with_robots


@dataclass(frozen=True, slots=True)
class Tally:
    """How many candidates share source, status, reason and licence; `size_bytes` is their kept bytes."""

    source: str
    status: str
    reason: str
    licence: str
    num: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class QueryTally:
    """What one query of one source has brought: `total` as the source claims, `kept` photos also met elsewhere."""

    source: str
    query: str
    state: str
    num_pages: int
    total: int | None
    offered: int
    kept: int
    error: str


@dataclass(frozen=True, slots=True)
class Listed:
    """One candidate in a list."""

    id: str
    status: str
    reason: str
    attempts: int
    licence: str
    shard: int | None


class History(Database):
    """The reading side of a frontier. Opens as `Database` does."""

    @contextmanager
    def at_one_moment(self) -> Iterator[None]:
        """All reads inside see one consistent state, whatever a crawl writes meanwhile."""
        with self._lock:
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("ROLLBACK")

    def tallies(self) -> list[Tally]:
        """Every candidate exactly once, grouped: the funnel."""
        rows = self._all(
            "SELECT source, status, reason, licence, count(*), sum(size_bytes) FROM candidates "
            "GROUP BY source, status, reason, licence"
        )
        return [Tally(*row) for row in rows]

    def query_tallies(self) -> list[QueryTally]:
        """Every query of every source, in the order they were made known."""
        rows = self._all(
            "SELECT q.source, text, state, num_pages, total, count(c.number), "
            "coalesce(sum(c.status = 'kept'), 0), error FROM queries q "
            "LEFT JOIN candidate_queries ON query = q.number LEFT JOIN candidates c ON c.number = candidate "
            "GROUP BY q.number ORDER BY q.number"
        )
        return [QueryTally(*row) for row in rows]

    def skipped(self) -> Counter[str]:
        """Offers that became no candidates, by reason."""
        found: Counter[str] = Counter()
        for (skipped,) in self._all("SELECT skipped FROM pages WHERE skipped != '{}'"):
            found.update(json.loads(skipped))
        return found

    def num_reports_due(self) -> int:
        (num,) = self._one("SELECT count(*) FROM candidates WHERE use_report = 'due'")
        return int(num)

    def listing(self, statuses: Sequence[str], reasons: Sequence[str], sources: Sequence[str]) -> Iterator[Listed]:
        """Candidates in the order of offers; an empty sequence narrows nothing. Read a thousand at a time."""
        where: list[str] = ["number > ?"]
        values: list[str] = []
        for column, wanted in (("status", statuses), ("reason", with_robots(reasons)), ("source", sources)):
            if wanted:
                where.append(f"{column} IN ({','.join('?' * len(wanted))})")
                values += wanted
        last = -1
        while rows := self._all(
            "SELECT number, id, status, reason, attempts, licence, shard FROM candidates "
            f"WHERE {' AND '.join(where)} ORDER BY number LIMIT 1000",
            (last, *values),
        ):
            last = rows[-1][0]
            yield from (Listed(*row[1:]) for row in rows)

    def worked(self, since: float = 0.0) -> tuple[int, float]:
        """(photos kept, seconds at work) of all crawls since then: of the ten-second spans in which any was kept."""
        num, spans = self._one("SELECT coalesce(sum(num), 0), count(*) FROM beats WHERE at >= ?", (since - 10,))
        return int(num), 10.0 * spans

    def last_plan(self) -> tuple[float, dict[str, Any]] | None:
        """(seconds since 1970, the plan) of the last crawl that made one."""
        if not self._one("SELECT count(*) FROM sqlite_master WHERE name = 'plans'")[0]:
            return None
        row = self._one("SELECT at, plan FROM plans ORDER BY at DESC LIMIT 1")
        return None if row is None else (float(row[0]), json.loads(row[1]))

    def rate(self, window_s: float = 600.0, fresh_s: float = 60.0) -> float | None:
        """Photos a second over the last minutes, or None where none was kept in the last `fresh_s` seconds."""
        now = time.time()
        rows = self._all("SELECT at, num FROM beats WHERE at > ? ORDER BY at", (now - window_s,))
        if len(rows) < 2 or now - rows[-1][0] > fresh_s:
            return None
        num_kept = int(sum(num for _, num in rows[1:]))
        return float(num_kept / max(now - rows[0][0], 1.0))
