"""Shard keys → shard reports: the same map on local processes, on one worker per GPU, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from lhq.errors import ConfigError
from lhq.records import Lane


@dataclass(frozen=True, slots=True)
class ShardReport:
    """The result of one shard: rows done, rows that failed, or the error that stopped it.

    `damaged`: the shard's own file is unreadable. `died`: the processes working on it crashed. `notes` name single rows
    that failed unusually: one that crashed its decoder, one whose bytes have changed.
    """

    key: str
    rows: int = 0
    failed_rows: int = 0
    seconds: float = 0.0
    error: str = ""
    damaged: bool = False
    died: bool = False
    notes: tuple[str, ...] = ()


class Job(Protocol):
    """The work on one shard; picklable, and its report is its only output."""

    def __call__(self, key: str) -> ShardReport: ...

    def lacks(self) -> str:
        """What this machine lacks to do the work ("the store s3://… can't be reached"); "" if nothing. Every node of a
        cluster is checked before work starts."""
        return ""

    def modules(self) -> tuple[str, ...]:
        """Modules that it needs beyond those of lhq's core, such as `torch`."""
        return ()

    def by_row(self) -> Job | None:
        """The same work with each row in its own process, so that a crash costs one row. An engine uses it for a
        shard on which workers died. None if the work can't be split by row."""
        return None


class Engine(Protocol):
    """Runs one picklable job over shard keys. A failed shard is a report; none is dropped."""

    shares_disk: bool = True
    """False if workers may be on machines that don't see this one's folders and share only the store."""

    def check(self, job: Job, lane: Lane) -> None:
        """Ask every machine that would work whether it can do `job`, before any work.

        Raises:
            ConfigError: what is lacking, and where.
        """
        if said := job.lacks():
            raise ConfigError(said, hint="mend it and run the same command again")

    def map(self, job: Job, keys: Sequence[str], lane: Lane) -> Iterator[ShardReport]:
        """Reports in completion order, exactly one per key."""
        ...
