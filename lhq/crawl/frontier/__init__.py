"""What was asked, what was offered, what became of it: one SQLite file, the memory of a crawl.

A page and its candidates are committed together, so a crash between two pages costs nothing and one within a page
costs that page's call. A candidate found by many queries is one row with many queries. The file is local and in
WAL mode: `lhq status` reads while a crawl writes. After a power cut it may lack the last moment; the spool does not,
and the crawl brings both together when it starts.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lhq.crawl.frontier import sealed_papers
from lhq.crawl.frontier.database import DIGEST_BYTES
from lhq.crawl.frontier.history import History, Listed, QueryTally, Tally
from lhq.crawl.reasons import with_robots
from lhq.records import Candidate, Query
from lhq.sources import Page

STALE_PAGES = 3
# A query split by date meets its first results again: a stable order brings something new after at most 16 pages of an
# interval and two for each of the 28 halvings; whoever repeats one page for ever is found out after this many.
STALE_SPLIT_PAGES = 100
# A candidate waits an hour and a half at the longest: a time further off was written while the clock was wrong.
LONGEST_WAIT_S = 2 * 3600.0

__all__ = ["Frontier", "Kept", "Listed", "OpenQuery", "QueryTally", "Tally", "Waiting"]


@dataclass(frozen=True, slots=True)
class OpenQuery:
    """A query that has pages left; `number` is its key here, `cursor` None means its first page. `num_offered` are
    its candidates so far."""

    number: int
    query: Query
    cursor: str | None
    num_pages: int
    num_offered: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A candidate to be fetched; `number` is its key here and its place in the order of offers."""

    number: int
    candidate: Candidate
    attempts: int


@dataclass(frozen=True, slots=True)
class Kept:
    """The frontier's record of a photo that is safe in the spool."""

    number: int
    shard: int
    size_bytes: int


class Frontier(History):
    """The frontier file of one store; safe to use from many threads. Opens as `Database` does."""

    # --- queries and their pages --------------------------------------------------------------------------------

    def add_queries(self, source: str, queries: Iterable[Query], per_query: int) -> None:
        """Make queries known; those known already keep their place. Queries that failed are open again, and those
        that were full while `per_query` was smaller."""
        with self._write() as db:
            db.executemany(
                "INSERT INTO queries (source, text, theme) VALUES (?, ?, ?) "
                "ON CONFLICT (source, text) DO UPDATE SET theme = excluded.theme",
                [(source, query.text, query.theme) for query in queries],
            )
            db.execute(
                "UPDATE queries SET state = 'open' WHERE source = ? "
                "AND (state = 'failed' OR state = 'full' AND num_offered < ?)",
                (source, per_query),
            )

    def next_query(self, source: str, texts: frozenset[str]) -> OpenQuery | None:
        """The open query with the fewest pages, so that all advance together; only those of `texts`."""
        rows = self._all(
            "SELECT number, text, theme, cursor, num_pages, num_offered FROM queries "
            "WHERE source = ? AND state = 'open' ORDER BY num_pages, number",
            (source,),
        )
        for number, text, theme, cursor, num_pages, num_offered in rows:
            if text in texts:
                return OpenQuery(number, Query(text, theme), cursor, num_pages, num_offered)
        return None

    def add_page(
        self, open_query: OpenQuery, page: Page, candidates: Sequence[tuple[Candidate, str]], *, is_full: bool = False
    ) -> int:
        """Commit one page: those of its candidates that are wanted, each with its host, and where the query goes on.

        A query ends with its last page, with a cursor it was at before, and after `STALE_PAGES` of nothing but what
        it had: services repeat pages rather than admit that there are no more. Pages that may repeat end it only
        after many. With `is_full` it rests at this page.

        Returns:
            how many candidates were new to the frontier.
        """
        next_cursor, skipped = page.next_cursor, json.dumps(dict(page.skipped))
        with self._write() as db:
            num_new, num_linked = _offer(db, open_query.number, candidates)
            db.execute(
                "INSERT OR REPLACE INTO pages VALUES (?, ?, ?, ?, ?, ?)",
                (open_query.number, open_query.cursor or "", time.time(), len(candidates), num_new, skipped),
            )
            is_loop = (
                next_cursor is not None
                and db.execute(
                    "SELECT 1 FROM pages WHERE query = ? AND cursor = ?", (open_query.number, next_cursor)
                ).fetchone()
            )
            (num_stale,) = db.execute("SELECT num_stale FROM queries WHERE number = ?", (open_query.number,)).fetchone()
            num_stale = num_stale + 1 if candidates and not num_linked else 0
            is_stale = num_stale >= (STALE_SPLIT_PAGES if page.may_repeat else STALE_PAGES)
            state = "done" if next_cursor is None or is_loop or is_stale else "open"
            if is_full:
                state, next_cursor = "full", open_query.cursor
            db.execute(
                "UPDATE queries SET cursor = ?, num_pages = num_pages + 1, num_stale = ?, state = ?, error = '', "
                "total = coalesce(?, total), num_offered = num_offered + ? WHERE number = ?",
                (next_cursor, num_stale, state, page.total, num_linked, open_query.number),
            )
        return num_new

    def fail_query(self, query: int, error: str, *, is_final: bool) -> None:
        """Record why a page failed; a final failure is not tried again until the next run."""
        with self._write() as db:
            db.execute(
                "UPDATE queries SET error = ?, state = CASE WHEN ? THEN 'failed' ELSE state END WHERE number = ?",
                (error, is_final, query),
            )

    # --- candidates ---------------------------------------------------------------------------------------------

    def hosts(self) -> list[str]:
        """Hosts that have candidates waiting, due or not."""
        found: list[str] = []
        host = ""
        while True:  # one seek a host: DISTINCT would walk a million rows
            row = self._one(
                "SELECT host FROM candidates WHERE status = 'waiting' AND host > ? ORDER BY host LIMIT 1", (host,)
            )
            if row is None:
                return found
            host = row[0]
            found.append(host)

    def waiting(self, host: str, now: float, limit: int, sources: Sequence[str]) -> list[Waiting]:
        """Candidates of a host that are due, in the order of offers, fresh ones before retries. A time that lies too
        far ahead is due too: the clock was set back since."""
        rows = self._all(
            "SELECT number, papers, attempts FROM candidates INDEXED BY candidates_waiting "
            "WHERE status = 'waiting' AND host = ? AND (next_at <= ? OR next_at > ?) "
            f"AND source IN ({','.join('?' * len(sources))}) ORDER BY next_at, number LIMIT ?",
            (host, now, now + LONGEST_WAIT_S, *sources, limit),
        )
        return [Waiting(number, self._loaded(papers), attempts) for number, papers, attempts in rows]

    def num_waiting(self, source: str, most: int) -> int:
        """How many candidates of a source wait, counted up to `most`."""
        (num,) = self._one(
            "SELECT count(*) FROM (SELECT 1 FROM candidates WHERE status = 'waiting' AND source = ? LIMIT ?)",
            (source, most),
        )
        return int(num)

    def is_all_throttled(self, sources: Sequence[str]) -> bool:
        """Do only candidates wait that were throttled when they were last asked for?"""
        row = self._one(
            "SELECT 1 FROM candidates WHERE status = 'waiting' AND reason != 'throttled' "
            f"AND source IN ({','.join('?' * len(sources))}) LIMIT 1",
            sources,
        )
        return row is None

    def next_due(self, sources: Sequence[str]) -> float | None:
        """When the next candidate of these sources is due (seconds since 1970), or None if none waits."""
        row = self._one(
            f"SELECT next_at FROM candidates WHERE status = 'waiting' AND source IN ({','.join('?' * len(sources))}) "
            "LIMIT 1",
            sources,
        )
        return None if row is None else float(row[0])

    def keep(self, photos: Sequence[Kept]) -> None:
        """Mark photos that are safe in the spool."""
        with self._write() as db:
            db.execute(
                "UPDATE candidates SET status = 'kept', reason = '', attempts = attempts + 1, "
                "shard = json_extract(value, '$[1]'), size_bytes = json_extract(value, '$[2]'), "
                "use_report = CASE WHEN use_report != '' THEN use_report "
                "WHEN json_extract(papers, '$.report_use_url') IS NULL THEN '' ELSE 'due' END "
                "FROM json_each(?) WHERE number = CAST(json_extract(value, '$[0]') AS INTEGER)",
                (json.dumps([(photo.number, photo.shard, photo.size_bytes) for photo in photos]),),
            )
            # One row every ten seconds: enough to compute a rate, few enough for two weeks.
            beat = int(time.time()) // 10 * 10
            db.execute(
                "INSERT INTO beats VALUES (?, ?) ON CONFLICT (at) DO UPDATE SET num = num + excluded.num",
                (beat, len(photos)),
            )

    def adopt(self, photos: Sequence[tuple[Candidate, int]], shard: int) -> int:
        """Add photos that a shard holds and this frontier doesn't know (each with the size of its bytes)."""
        with self._write() as db:
            return sum(
                db.execute(
                    "INSERT INTO candidates (id, source, licence, host, papers, status, shard, size_bytes, use_report) "
                    "VALUES (?, ?, ?, '', ?, 'kept', ?, ?, 'done') ON CONFLICT (id) DO NOTHING",
                    (each.id, each.source, each.licence, sealed_papers.dump(each), shard, size_bytes),
                ).rowcount
                for each, size_bytes in photos
            )

    def fail(self, number: int, reason: str, detail: str, *, retry_at: float | None, counts: bool = True) -> None:
        """Record a failed attempt; with `retry_at` the candidate waits to be tried again, without it it has failed.

        Args:
            counts: False for failures that the host causes (throttled), not the photo.
        """
        with self._write() as db:
            db.execute(
                "UPDATE candidates SET status = ?, reason = ?, attempts = attempts + ?, next_at = ? WHERE number = ?",
                ("failed" if retry_at is None else "waiting", reason, int(counts), retry_at or 0.0, number),
            )
            db.execute("INSERT INTO attempts VALUES (?, ?, ?, ?)", (number, time.time(), reason, detail))

    def same_picture(self, number: int, sha256: str) -> list[int]:
        """Remember what candidate `number` looks like; the numbers of its source's candidates that look the same."""
        digest = bytes.fromhex(sha256)[:DIGEST_BYTES]
        is_alone = self._look_at(digest, number)
        # After that, beside any transaction: what was pending before is in the file by now, or still pending.
        known = self._glance("SELECT candidate FROM pictures WHERE digest = ? LIMIT 2", (digest,))
        if is_alone and all(each == number for (each,) in known):
            return [number]
        with self._write():
            pass
        rows = self._all(
            "SELECT c.number FROM pictures JOIN candidates c ON c.number = candidate "
            "WHERE digest = ? AND c.source = (SELECT source FROM candidates WHERE number = ?)",
            (digest, number),
        )
        return [number for (number,) in rows]

    def kept_as(self, sha256: str) -> list[str]:
        """Ids of kept candidates that look like this."""
        with self._write():
            pass
        rows = self._all(
            "SELECT id FROM pictures JOIN candidates c ON c.number = candidate WHERE digest = ? AND status = 'kept'",
            (bytes.fromhex(sha256)[:DIGEST_BYTES],),
        )
        return [id for (id,) in rows]

    def num_attempts(self, number: int, reason: str) -> int:
        (num,) = self._one("SELECT count(*) FROM attempts WHERE candidate = ? AND reason = ?", (number, reason))
        return int(num)

    def retry(self, reasons: Sequence[str]) -> int:
        """Let failed candidates wait again: those whose reason is in `reasons`, or all for ("all",)."""
        wanted = with_robots(reasons)
        clause = "" if "all" in reasons else f"AND reason IN ({','.join('?' * len(wanted))})"
        with self._write() as db:
            return db.execute(
                f"UPDATE candidates SET status = 'waiting', attempts = 0, next_at = 0 WHERE status = 'failed' {clause}",
                () if "all" in reasons else tuple(wanted),
            ).rowcount

    def lose(self, ids: Sequence[str], reason: str) -> int:
        """Mark kept photos as waiting again, since their bytes are lost or damaged."""
        with self._write() as db:
            return sum(
                db.execute(
                    "UPDATE candidates SET status = 'waiting', reason = ?, attempts = 0, next_at = 0, shard = NULL, "
                    "size_bytes = 0 WHERE id = ? AND status = 'kept'",
                    (reason, id),
                ).rowcount
                for id in ids
            )

    def refuse(self, ids: Sequence[str], reason: str) -> int:
        """Mark candidates as failed permanently, e.g. those an owner asked to take down: they are not fetched again."""
        with self._write() as db:
            return sum(
                db.execute(
                    "UPDATE candidates SET status = 'failed', reason = ?, shard = NULL, size_bytes = 0 WHERE id = ?",
                    (reason, id),
                ).rowcount
                for id in ids
            )

    def numbers_of(self, ids: Sequence[str]) -> dict[str, tuple[int, str]]:
        """id → (number, status) of candidates that are known."""
        found = {}
        for id in ids:
            row = self._one("SELECT number, status FROM candidates WHERE id = ?", (id,))
            if row is not None:
                found[id] = (int(row[0]), str(row[1]))
        return found

    def candidates_of(self, ids: Sequence[str]) -> list[Candidate]:
        """The candidates of these ids, of those that are known."""
        rows = [self._one("SELECT papers FROM candidates WHERE id = ?", (id,)) for id in ids]
        return [self._loaded(row[0]) for row in rows if row is not None]

    def _loaded(self, papers: str) -> Candidate:
        try:
            return sealed_papers.load(papers)
        except (ValueError, TypeError) as error:
            raise self.damaged(f"a candidate's papers: {error}") from error

    def kept_in(self, shard: int) -> list[str]:
        """Ids that should be in one shard."""
        rows = self._all("SELECT id FROM candidates WHERE status = 'kept' AND shard = ?", (shard,))
        return [id for (id,) in rows]

    def shards(self) -> list[int]:
        """Numbers of the shards that kept photos are in, ascending."""
        found: list[int] = []
        while True:
            row = self._one(
                "SELECT shard FROM candidates WHERE status = 'kept' AND shard > ? ORDER BY shard LIMIT 1",
                (found[-1] if found else -1,),
            )
            if row is None:
                return found
            found.append(int(row[0]))

    def queries_of(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Every query that each candidate was met under, in the order they were made known."""
        # Many ids in one row: SQLite lets go of the interpreter at every row, and others may keep it for a while.
        (pairs,) = self._one(
            "SELECT json_group_array(json_array(c.id, q.number, text)) FROM json_each(?) AS asked "
            "CROSS JOIN candidates c ON c.id = asked.value JOIN candidate_queries ON candidate = c.number "
            "JOIN queries q ON q.number = query",
            (json.dumps(list(ids)),),
        )
        found: dict[str, list[str]] = {id: [] for id in ids}
        for id, _, text in sorted(json.loads(pairs)):
            found[id].append(text)
        return found

    def add_plan(self, plan: Mapping[str, object]) -> None:
        """Record a crawl's plan, so that it can be compared with what happened."""
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO plans VALUES (?, ?)", (time.time(), json.dumps(plan)))

    # --- reports of use -----------------------------------------------------------------------------------------

    def reports_due(self, source: str, limit: int) -> list[tuple[int, str]]:
        """(number, URL) of kept photos whose use the source asks to be told."""
        return self._all(
            "SELECT number, json_extract(papers, '$.report_use_url') FROM candidates "
            "WHERE source = ? AND use_report = 'due' LIMIT ?",
            (source, limit),
        )

    def reported(self, number: int, *, error: str = "") -> None:
        """Record that the source was told, or that it refused (`error`, kept among the attempts)."""
        with self._write() as db:
            done = "failed" if error else "done"
            db.execute("UPDATE candidates SET use_report = ? WHERE number = ?", (done, number))
            if error:
                db.execute("INSERT INTO attempts VALUES (?, ?, 'report', ?)", (number, time.time(), error))


def _offer(db: sqlite3.Connection, query: int, candidates: Sequence[tuple[Candidate, str]]) -> tuple[int, int]:
    """Candidates, each with its host, under a query: (how many are new, how many the query had not)."""
    num_new = num_linked = 0
    for candidate, host in candidates:
        row = db.execute(
            "INSERT INTO candidates (id, source, licence, host, papers) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO NOTHING RETURNING number",
            (candidate.id, candidate.source, candidate.licence, host, sealed_papers.dump(candidate)),
        ).fetchone()
        if row is not None:
            num_new += 1
        else:
            row = db.execute("SELECT number FROM candidates WHERE id = ?", (candidate.id,)).fetchone()
        num_linked += db.execute("INSERT OR IGNORE INTO candidate_queries VALUES (?, ?)", (row[0], query)).rowcount
    return num_new, num_linked
