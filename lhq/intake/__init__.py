"""Photos that no crawl fetched (imported, rehydrated) → the store's shards, through the same checks and spool.

What is taken in survives a kill at once, as in a crawl; run again, what is held is passed over. The store's crawl
must not be at work, nor have left an open shard: its frontier would not know of ours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lhq.crawl import FRONTIER
from lhq.crawl.papers import now, papers_of, papers_of_bytes
from lhq.crawl.spool import Spool, open_numbers
from lhq.errors import ImageError, StoreError
from lhq.images import Header, inspect
from lhq.images.metadata import metadata_bytes, xmp_packets
from lhq.records import Candidate
from lhq.rights.policy import Policy
from lhq.rights.reservations import evidence_of_photo
from lhq.store import tombstones
from lhq.store.lock import locked
from lhq.store.shards import Shards

RIGHTS_COLUMNS = ("licence", "author", "attribution", "permits", "permission", "permission_by", "permission_on")


@dataclass(frozen=True, slots=True)
class Into:
    """Where photos go: the address of the store, and its local folder, in which they wait to be sealed."""

    store: str
    folder: str


@dataclass(frozen=True, slots=True)
class Held:
    """What the store holds of a photo: the hash of its bytes, and the papers that bear rights."""

    sha256: str
    papers: tuple[str, ...]
    """In the order of `RIGHTS_COLUMNS`; a list as words apart by spaces."""

    @classmethod
    def of(cls, sha256: str, papers: Mapping[str, Any]) -> Held:
        """Of a row of papers."""
        values = (papers[name] for name in RIGHTS_COLUMNS)
        return cls(sha256, tuple(value if isinstance(value, str) else " ".join(value) for value in values))


class Intake:
    """An open store; made by `intake`."""

    def __init__(self, into: Into, max_pixels: int, policy: Policy) -> None:
        self._policy = policy
        store, folder = into.store, into.folder
        self._shards, self._folder, self._max_pixels = Shards(store, "photos"), folder, max_pixels
        self._removed, self._removed_sha256 = tombstones.removed_ids(store), tombstones.removed_sha256(store)
        self._spool: Spool | None = None
        self._shards.forget_debris()
        for number in open_numbers(folder):
            self._seal(Spool(folder, number))
        self.held: dict[str, Held] = {}
        """id → what the store holds of it."""
        for number in self._shards.numbers():
            rows = self._shards.read(number, ["id", "sha256", *RIGHTS_COLUMNS])
            self.held |= {row["id"]: Held.of(row["sha256"], row) for row in rows.to_pylist()}

    def has(self, id: str) -> bool:
        """Whether the store holds the photo, or keeps it out: nothing is to be done then."""
        return id in self.held or id in self._removed

    def is_removed(self, id: str) -> bool:
        """Whether the photo was taken down."""
        return id in self._removed

    def add(self, candidate: Candidate, data: bytes | bytearray) -> None:
        """Take one photo in.

        Raises:
            ImageError: the bytes are not a whole picture of a supported type, were taken down, are reserved by their
                own metadata, or belong to a denied author or host.
            StoreError: the disk is full; what was taken in before stays.
        """
        header = inspect(data, max_pixels=self._max_pixels)
        evidence = evidence_of_photo(candidate, metadata_bytes(data), xmp_packets(data))
        if binding := evidence.binding(self._policy.honour):
            raise ImageError(binding, hint="leave it out, or see [rights] honour", reason="opt-out")
        addresses = (candidate.page_url, candidate.author_url, candidate.url)
        if why := self._policy.deny_list.matching_entry([candidate.author, candidate.attribution], addresses):
            raise ImageError(why, hint="see the file of [rights] deny", reason="denied")
        self.put(papers_of(candidate, header, candidate.url, now(), evidence), data)

    def put_changed(self, papers: Mapping[str, Any], header: Header, data: bytes | bytearray) -> None:
        """Take in a photo whose bytes are no longer those that its papers speak of: fetched now, papers mended."""
        self.put({**papers, **papers_of_bytes(header, now())}, data)

    def put(self, papers: Mapping[str, Any], data: bytes | bytearray) -> None:
        """Take one photo in whose papers are complete (`PHOTO_SCHEMA` but `image`; `fetched_at` in ms since 1970).

        Raises:
            ImageError: the bytes were taken down.
            StoreError: the disk is full.
        """
        if papers["sha256"] in self._removed_sha256:
            raise ImageError("these bytes were taken down", hint="see removed.parquet", reason="removed")
        if self._spool is None:
            taken = [*self._shards.numbers(), *open_numbers(self._folder)]
            self._spool = Spool(self._folder, max(taken, default=-1) + 1)
        self._spool.append(papers, data)
        self.held[str(papers["id"])] = Held.of(str(papers["sha256"]), papers)
        if self._spool.is_full:
            self.finish()

    def finish(self) -> None:
        """Seal the open shard."""
        if self._spool is not None:
            spool, self._spool = self._spool, None
            self._seal(spool)

    def _seal(self, spool: Spool) -> None:
        spool.sync()
        spool.seal(self._shards, lambda ids: {})


@contextlib.contextmanager
def intake(into: Into, *, max_pixels: int = 0, policy: Policy | None = None) -> Iterator[Intake]:
    """The store, open for photos; what was taken in is sealed at the end, also after an error.

    Raises:
        StoreError: a crawl or an import is at work in it, or left an open shard.
    """
    folder = into.folder
    place = Path(folder)
    with locked(folder, "crawl"):
        if (place / FRONTIER).exists() and open_numbers(folder):
            raise StoreError(
                f"{folder}: a crawl was stopped here with a shard open", hint="let it finish: run lhq crawl again"
            )
        opened = Intake(into, max_pixels, policy or Policy())
        try:
            yield opened
        finally:
            opened.finish()
