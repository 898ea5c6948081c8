"""Shard keys → shard reports: the same map on threads, processes, one worker a GPU, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from lhq.records import Lane


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What became of one shard: rows done, rows that failed as values, or the error that stopped it.

    `damaged` says that the shard's own file is not readable.
    """

    key: str
    rows: int = 0
    failed_rows: int = 0
    seconds: float = 0.0
    error: str = ""
    damaged: bool = False


class Job(Protocol):
    """What is done to one shard: picklable, with nothing to say but its report."""

    def __call__(self, key: str) -> ShardReport: ...

    def lacks(self) -> str:
        """What this machine lacks to do it ("the store s3://… can't be reached"); "" if nothing. A cluster's nodes
        are asked before work starts."""
        return ""


class Engine(Protocol):
    """Runs one picklable job over shard keys; a shard's failure is a report, and none is swallowed."""

    def map(self, job: Job, keys: Sequence[str], lane: Lane) -> Iterator[ShardReport]:
        """Reports in completion order, exactly one a key."""
        ...
