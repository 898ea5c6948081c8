"""Query → candidates: one file a source.

A source turns a query and a cursor into a page of candidates with their papers. It holds no state: the
frontier keeps the cursor, so any page can be asked for again after a crash.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, TypedDict
from urllib.parse import urlsplit

import pydantic

from lhq.config import Settings
from lhq.errors import FetchError, KeyMissing, SourceError
from lhq.records import Candidate, Query
from lhq.rights.licences import Rights
from lhq.rights.permissions import Permission

_UNFIT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def _is_service(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_fine = False
    if not is_fine or not url.isprintable() or " " in url or "@" in url or parts.query or parts.fragment:
        raise ValueError("not the http(s) address of a service")
    return url


ServiceUrl = Annotated[str, pydantic.AfterValidator(_is_service)]
"""A service's address in a settings class: judged when the file is read."""


def secret(name: str) -> str:
    """The key that the environment holds under a name; "" where there is none.

    Raises:
        KeyMissing: it can't be a key.
    """
    key = os.environ.get(name, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise KeyMissing(f"{name} holds spaces or letters that no key has", hint="export the key alone")
    return key


class SourceSettings(Settings):
    """What every `[source.<name>]` table may say."""

    per_query: int = pydantic.Field(1200, gt=0)
    """Candidates taken from one query at most."""
    min_side_px: int = pydantic.Field(1024, ge=1)
    """Short side; judged from the source's claim where it makes one, and again from the bytes."""
    calls_per_hour: float | None = None
    """Calls that the service allows in an hour; None where it sets no limit."""

    def stated_permission(self) -> Permission | None:
        """The rights holder's permission that the table states; sources with such a key override this."""
        return None


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a source: its candidates, and the cursor of the next page (None: that was the last).

    `total` is what the source says the query has in all (None where it doesn't say); `skipped` counts
    offers without papers, by reason: no papers, no candidate. `may_repeat` says that a page of nothing new does not
        mean the end: the source looks at parts of a query whose first results it has offered already.
    """

    candidates: tuple[Candidate, ...]
    next_cursor: str | None
    total: int | None = None
    skipped: tuple[tuple[str, int], ...] = ()
    may_repeat: bool = False


@dataclass(frozen=True, slots=True)
class Manners:
    """Limits that a source's terms set for fetching its photos, on every host that serves them: connections at once,
    and bytes a second.
    """

    num_slots: int
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What a plan is computed from: how many photos a source gives per call, and how fast.

    `page_size` 0 stands for a source that is read in place, `calls_per_kept` for reports of use. `photo_bytes`,
    `photos_per_s` are typical figures for one full-size photo and for its image host under the default limits;
    `slow_photos_per_s` is the pace of a bad day, as public reports have it (None: half of the other).
    `most_calls_per_hour` is what the service's best keys allow, where a plan should say so.
    """

    page_size: int
    calls_per_kept: int
    photo_bytes: int
    photos_per_s: float
    slow_photos_per_s: float | None = None
    most_calls_per_hour: float | None = None


class Source(Protocol):
    """Where candidates come from. A class of your own subclasses this one and is built as `Class(settings, client)`."""

    name: str
    """The key of `[source.NAME]` and the prefix of every id."""
    settings_class: type[SourceSettings]
    settings: SourceSettings
    rights: Rights
    limits: Limits
    is_local: bool = False
    """Its photos are files of this machine, not URLs: `read` gives their bytes."""
    needs_queries: bool = True
    """It searches for the pipeline's queries; False where it offers all it has."""
    reports_use: bool = False
    """It must be told of every photo kept, by `report_use`."""
    manners: Manners | None = None
    """What its terms ask towards the hosts of its photos, beyond the settings."""
    states_licences: bool = False
    """It can be asked for what it states of one photo today, by `licence_of`."""

    def search(self, query: Query, cursor: str | None) -> Page:
        """One page of a query; `cursor` None asks for the first.

        Raises:
            SourceError: the service is down, refuses, or answers nonsense.
            KeyMissing: the key is missing or refused.
        """
        ...

    def queries(self, asked: Sequence[Query]) -> Sequence[Query]:
        """What to search for: the pipeline's queries, or others where a source offers all it has, whatever is asked."""
        return asked

    def report_use(self, url: str) -> None:
        """Tell the source that the photo behind this `report_use_url` is kept.

        Raises:
            SourceError, KeyMissing: as `search`.
        """
        return

    def licence_of(self, source_id: str) -> str | None:
        """The id of the photo's licence now; "" for one that `licences` doesn't know, None if the photo is gone.

        Raises:
            SourceError, KeyMissing: as `search`.
        """
        raise SourceError(f"{self.name}: can't be asked for a licence", hint="look at the photo's page")

    def read(self, candidate: Candidate) -> bytes:
        """The photo's bytes.

        Raises:
            FetchError: the file is gone or can't be read.
        """
        raise FetchError(f"{candidate.id}: no file of this machine", hint="", reason="unreadable", permanent=True)


def text(value: object) -> str:
    """A remote field as text that any file and terminal can hold; "" for anything but text and numbers."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    return _UNFIT.sub(" ", str(value)).strip()


def number(value: object) -> int | None:
    """A remote field as a positive whole number, whether it came as number or string; None otherwise."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    try:
        found = int(value)
    except ValueError:
        return None
    return found if 0 < found < 2**31 else None


def link(value: object) -> str:
    """A remote field as an http(s) URL, or ""."""
    found = text(value)
    return found if found.startswith(("https://", "http://")) and len(found) < 2048 else ""


def fields(value: object) -> dict[str, object]:
    """A remote field as an object; empty where it is something else."""
    return value if isinstance(value, dict) else {}


class Coordinates(TypedDict):
    """Where a photo was taken, in degrees; None where it is not known."""

    latitude: float | None
    longitude: float | None


def coordinates(latitude: object, longitude: object) -> Coordinates:
    """Remote coordinates, given as numbers or text. Zero north and zero east is how services write "unknown"."""
    try:
        north, east = float(text(latitude)), float(text(longitude))
    except ValueError:
        north = east = 0.0
    is_known = abs(north) <= 90 and abs(east) <= 180 and (north, east) != (0.0, 0.0)
    return Coordinates(latitude=north if is_known else None, longitude=east if is_known else None)


class Skips:
    """Counts offers that became no candidates, by reason."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, reason: str) -> None:
        self._counts[reason] = self._counts.get(reason, 0) + 1

    def all(self) -> tuple[tuple[str, int], ...]:
        return tuple(sorted(self._counts.items()))
