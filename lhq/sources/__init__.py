"""Query → candidates: one file a source.

A source turns a query and a cursor into a page of candidates with their papers. It holds no state: the
frontier keeps the cursor, so any page can be asked for again after a crash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lhq.licences import Rights
from lhq.records import Candidate, Query


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a source: its candidates, and the cursor of the next page (None: that was the last).

    `total` is what the source says the query has in all (None where it doesn't say); `skipped` counts
    offers without papers, by reason: no papers, no candidate.
    """

    candidates: tuple[Candidate, ...]
    next_cursor: str | None
    total: int | None = None
    skipped: tuple[tuple[str, int], ...] = ()


class Source(Protocol):
    """Where candidates come from; `name` is the key of `[source.<name>]` and the prefix of every id."""

    name: str
    rights: Rights

    def search(self, query: Query, cursor: str | None) -> Page:
        """One page of a query; `cursor` None asks for the first.

        Raises:
            SourceError: the service is down, refuses, or answers nonsense.
            KeyMissing: the key is missing or refused.
        """
        ...
