"""Shard keys → shard reports: the same map on threads, processes, one worker a GPU, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from lhq.errors import ConfigError
from lhq.records import Lane


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What became of one shard: rows done, rows that failed as values, or the error that stopped it.

    `damaged` says that the shard's own file is not readable, `died` that the processes which took it did not come back.
    `notes` name rows that cost something: one that killed a decoder, one whose bytes are not those that were fetched.
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
    """What is done to one shard: picklable, with nothing to say but its report."""

    def __call__(self, key: str) -> ShardReport: ...

    def lacks(self) -> str:
        """What this machine lacks to do it ("the store s3://… can't be reached"); "" if nothing. A cluster's nodes
        are asked before work starts."""
        return ""

    def modules(self) -> tuple[str, ...]:
        """Modules that it needs beyond those of lhq's core, such as `torch`."""
        return ()

    def by_row(self) -> Job | None:
        """The same with each row in a process of its own, so that one that kills a process costs that row: what an
        engine does with a shard on which workers died. None where rows can't be told apart."""
        return None


class Engine(Protocol):
    """Runs one picklable job over shard keys; a shard's failure is a report, and none is swallowed."""

    shares_disk: bool = True
    """False where workers may be on machines that do not see this one's folders: all they share is the store."""

    def check(self, job: Job, lane: Lane) -> None:
        """Ask every machine that would work whether it can do `job`, before any work.

        Raises:
            ConfigError: what is lacking, and where.
        """
        if said := job.lacks():
            raise ConfigError(said, hint="mend it and run the same command again")

    def map(self, job: Job, keys: Sequence[str], lane: Lane) -> Iterator[ShardReport]:
        """Reports in completion order, exactly one a key."""
        ...
