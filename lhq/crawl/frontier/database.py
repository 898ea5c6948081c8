"""The frontier's file: its tables, its single writer, and the errors when it can't be opened."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lhq.errors import NotCrawled, StoreError

FORMAT = 1
DIGEST_BYTES = 16

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE queries (
    number INTEGER PRIMARY KEY, source TEXT NOT NULL, text TEXT NOT NULL, theme TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'open', cursor TEXT, num_pages INTEGER NOT NULL DEFAULT 0,
    num_offered INTEGER NOT NULL DEFAULT 0, num_stale INTEGER NOT NULL DEFAULT 0, total INTEGER,
    error TEXT NOT NULL DEFAULT '', UNIQUE (source, text));
CREATE TABLE pages (
    query INTEGER NOT NULL, cursor TEXT NOT NULL, at REAL NOT NULL, num_offered INTEGER NOT NULL,
    num_new INTEGER NOT NULL, skipped TEXT NOT NULL, PRIMARY KEY (query, cursor)) WITHOUT ROWID;
CREATE TABLE candidates (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, source TEXT NOT NULL, licence TEXT NOT NULL,
    host TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'waiting', reason TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0, next_at REAL NOT NULL DEFAULT 0, shard INTEGER,
    size_bytes INTEGER NOT NULL DEFAULT 0, use_report TEXT NOT NULL DEFAULT '', papers TEXT NOT NULL);
CREATE INDEX candidates_waiting ON candidates (host, next_at, number) WHERE status = 'waiting';
CREATE INDEX candidates_waiting_source ON candidates (source) WHERE status = 'waiting';
CREATE INDEX candidates_funnel ON candidates (source, status, reason, licence, size_bytes);
CREATE INDEX candidates_shard ON candidates (shard) WHERE status = 'kept';
CREATE INDEX candidates_report ON candidates (source) WHERE use_report = 'due';
CREATE TABLE candidate_queries (
    candidate INTEGER NOT NULL, query INTEGER NOT NULL, PRIMARY KEY (candidate, query)) WITHOUT ROWID;
CREATE INDEX candidate_queries_query ON candidate_queries (query);
CREATE TABLE attempts (candidate INTEGER NOT NULL, at REAL NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL);
CREATE TABLE beats (at INTEGER PRIMARY KEY, num INTEGER NOT NULL);
CREATE INDEX attempts_candidate ON attempts (candidate);
"""


# Tables added since the format's first version: made where they are missing, and ignored by versions before them.
_ADDED = """
CREATE TABLE IF NOT EXISTS pictures (digest BLOB NOT NULL, candidate INTEGER NOT NULL, PRIMARY KEY (digest, candidate))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS plans (at REAL PRIMARY KEY, plan TEXT NOT NULL)
"""


_STATES = ("open", "done", "full", "failed")  # of a query
_MOVE_AWAY = "check disk and permissions; if it is damaged, move it away: the next crawl rebuilds it from photos/"


class Database:
    """One SQLite file, shared by all threads of a process through one connection.

    Args:
        path: the SQLite file; made if it is not there, unless `read_only`.

    Raises:
        StoreError: it can't be opened, is no frontier, or was written by a newer lhq.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._glancing = threading.Lock()
        # What candidates look like, by digest, until the next transaction takes it along: that of a photo's keeping or
        # failing at the latest, so that no photo costs a transaction of its own for it.
        self._pictures: dict[bytes, set[int]] = {}
        self._looking = threading.Lock()
        try:
            if not read_only:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            elif not self.path.exists():
                raise NotCrawled(f"{self.path}: no crawl was started here", hint="start one: lhq crawl PIPELINE")
            mode = "rwc"
            if read_only:
                # Even a reader of a WAL file writes beside it; where it can't, there is no writer to mind either.
                has_wal = self._wal.exists() and self._wal.stat().st_size > 0
                mode = "ro" if has_wal or os.access(self.path.parent, os.W_OK) else "ro&immutable=1"
            self._db = self._connected(mode)
            if not read_only:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA cache_size = -16000")
            self._open(read_only)
            self._glances = self._connected("ro" if mode == "rwc" else mode)
        except (sqlite3.Error, UnicodeDecodeError, OSError) as error:
            raise StoreError(f"{self.path}: not a frontier that can be opened ({error})", hint=_MOVE_AWAY) from error

    def _connected(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            check_same_thread=False,
            isolation_level=None,
            timeout=30,
        )

    def _open(self, read_only: bool) -> None:
        has_meta = self._one("SELECT count(*) FROM sqlite_master WHERE name = 'meta'")[0]
        if not has_meta:
            if read_only:
                raise NotCrawled(f"{self.path}: no crawl was started here", hint="start one: lhq crawl PIPELINE")
            with self._write() as db:
                for statement in _SCHEMA.split(";\n"):
                    db.execute(statement)
                db.execute("INSERT INTO meta VALUES ('format', ?)", (str(FORMAT),))
        (found,) = self._one("SELECT value FROM meta WHERE key = 'format'") or ("",)
        if not found.isdecimal():
            raise StoreError(f"{self.path}: not a frontier that can be opened (no format)", hint=_MOVE_AWAY)
        if int(found) <= FORMAT and not read_only:
            with self._write() as db:
                for statement in _ADDED.split(";\n"):
                    db.execute(statement)
        if int(found) > FORMAT:
            raise StoreError(
                f"{self.path}: written by a newer lhq (store format {found}, this one reads up to {FORMAT})",
                hint="upgrade: pip install -U lhq",
            )
        if has_meta and not read_only:
            self._check_values()

    def _check_values(self) -> None:
        """SQLite has no checksums, but most columns are in an index too, and both are compared: a second for 450,000
        candidates. The state of a query is not."""
        (said,) = self._one("PRAGMA integrity_check(1)")
        if said != "ok":
            raise self.damaged(said)
        for text, state in self._all("SELECT text, state FROM queries WHERE state NOT IN (?, ?, ?, ?)", _STATES):
            raise self.damaged(f"the state of query {text!r} is {state!r}")

    @property
    def _wal(self) -> Path:
        return self.path.with_name(f"{self.path.name}-wal")

    def close(self) -> None:
        with self._lock, self._glancing:
            self._glances.close()
            self._db.close()

    def _one(self, sql: str, values: Sequence[object] = ()) -> Any:
        with self._lock, self._naming_damage():
            return self._db.execute(sql, values).fetchone()

    def _all(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        with self._lock, self._naming_damage():
            return self._db.execute(sql, values).fetchall()

    def _glance(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        """What was committed last, seen beside a transaction that is under way."""
        with self._glancing, self._naming_damage():
            return self._glances.execute(sql, values).fetchall()

    @contextmanager
    def _naming_damage(self) -> Iterator[None]:
        """Errors that come from the file's bytes name the file; those of our own SQL stay as they are."""
        try:
            yield
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
                raise
            raise self.damaged(str(error)) from error

    def damaged(self, why: str) -> StoreError:
        """The error to raise when the file can be opened, but not read to its end."""
        return StoreError(f"{self.path}: a frontier that can't be read ({why})", hint=_MOVE_AWAY)

    def _look_at(self, digest: bytes, number: int) -> bool:
        """Note what a candidate looks like, for the next transaction; is it the only one of these that is noted?"""
        with self._looking:
            pending = self._pictures.setdefault(digest, set())
            pending.add(number)
            return len(pending) == 1

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """One transaction; a full disk is the user's to mend, not our bug."""
        with self._lock, self._naming_damage():
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    with self._looking:
                        looks = [(digest, number) for digest, numbers in self._pictures.items() for number in numbers]
                    if looks:
                        self._db.execute(
                            "INSERT OR IGNORE INTO pictures SELECT substr(?, key * ? + 1, ?), value FROM json_each(?)",
                            (
                                b"".join(digest for digest, _ in looks),
                                DIGEST_BYTES,
                                DIGEST_BYTES,
                                json.dumps([number for _, number in looks]),
                            ),
                        )
                    yield self._db
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
                with self._looking:  # others may have come meanwhile
                    for digest, number in looks:
                        numbers = self._pictures.get(digest, set())
                        numbers.discard(number)
                        if not numbers:
                            self._pictures.pop(digest, None)
            except sqlite3.OperationalError as error:
                raise StoreError(
                    f"{self.path}: can't be written ({error})", hint="free space or mend permissions, then run again"
                ) from error
