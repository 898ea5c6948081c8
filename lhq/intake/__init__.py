"""Photos that no crawl fetched (imported, rehydrated) → the store's shards, through the same checks and spool.

As in a crawl, added photos survive a kill at once, and photos that the store holds are skipped. The store's crawl must
not be running, nor have left an open shard, since its frontier wouldn't know of ours.
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
class Destination:
    """The store's address, and its local folder, which holds the spool."""

    store: str
    folder: str


@dataclass(frozen=True, slots=True)
class StoredPhoto:
    """A photo in the store: the sha256 of its bytes, and the rights columns of its papers."""

    sha256: str
    papers: tuple[str, ...]
    """In the order of `RIGHTS_COLUMNS`; lists are joined by spaces."""

    @classmethod
    def of(cls, sha256: str, papers: Mapping[str, Any]) -> StoredPhoto:
        """From a row of papers."""
        values = (papers[name] for name in RIGHTS_COLUMNS)
        return cls(sha256, tuple(value if isinstance(value, str) else " ".join(value) for value in values))


class Intake:
    """A store opened for adding photos; see `intake`."""

    def __init__(self, destination: Destination, max_pixels: int, policy: Policy) -> None:
        self._policy = policy
        store, folder = destination.store, destination.folder
        self._shards, self._folder, self._max_pixels = Shards(store, "photos"), folder, max_pixels
        self._removed, self._removed_sha256 = tombstones.removed_ids(store), tombstones.removed_sha256(store)
        self._spool: Spool | None = None
        self._shards.delete_partial_files()
        for number in open_numbers(folder):
            self._seal(Spool(folder, number))
        self.held: dict[str, StoredPhoto] = {}
        """The store's photos by id."""
        for number in self._shards.numbers():
            rows = self._shards.read(number, ["id", "sha256", *RIGHTS_COLUMNS])
            self.held |= {row["id"]: StoredPhoto.of(row["sha256"], row) for row in rows.to_pylist()}

    def has(self, id: str) -> bool:
        """Whether the store holds the photo or has a tombstone for it."""
        return id in self.held or id in self._removed

    def is_removed(self, id: str) -> bool:
        """Whether the store has a tombstone for the photo."""
        return id in self._removed

    def inspect(self, data: bytes | bytearray) -> Header:
        """The header of a photo; raises ImageError as `lhq.images.inspect`, by this intake's limit on pixels."""
        return inspect(data, max_pixels=self._max_pixels)

    def add(self, candidate: Candidate, data: bytes | bytearray) -> None:
        """Check and add a photo.

        Raises:
            ImageError: the bytes are not a complete image of a supported format, were taken down, are reserved by their
                metadata, or match the deny list.
            StoreError: the disk is full; photos added before stay.
        """
        header = self.inspect(data)
        evidence = evidence_of_photo(candidate, metadata_bytes(data), xmp_packets(data))
        if binding := evidence.binding(self._policy.honour):
            raise ImageError(binding, hint="leave it out, or see [rights] honour", reason="opt-out")
        addresses = (candidate.page_url, candidate.author_url, candidate.url)
        if why := self._policy.deny_list.matching_entry([candidate.author, candidate.attribution], addresses):
            raise ImageError(why, hint="see the file of [rights] deny", reason="denied")
        self.put(papers_of(candidate, header, candidate.url, now(), evidence), data)

    def put_changed(self, papers: Mapping[str, Any], header: Header, data: bytes | bytearray) -> None:
        """Add a photo whose bytes differ from its papers, updating the papers to these bytes, fetched now."""
        self.put({**papers, **papers_of_bytes(header, now())}, data)

    def put(self, papers: Mapping[str, Any], data: bytes | bytearray) -> None:
        """Add a photo with complete papers (`PHOTO_SCHEMA` without `image`; `fetched_at` in ms since 1970).

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
        self.held[str(papers["id"])] = StoredPhoto.of(str(papers["sha256"]), papers)
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
def intake(destination: Destination, *, max_pixels: int = 0, policy: Policy | None = None) -> Iterator[Intake]:
    """Open a store for adding photos; the open shard is sealed at the end, also after an error.

    Raises:
        StoreError: a crawl or an import is running on it, or a crawl left an open shard.
    """
    folder = destination.folder
    place = Path(folder)
    with locked(folder, "crawl"):
        if (place / FRONTIER).exists() and open_numbers(folder):
            raise StoreError(
                f"{folder}: a crawl was stopped here with a shard open", hint="let it finish: run lhq crawl again"
            )
        opened = Intake(destination, max_pixels, policy or Policy())
        try:
            yield opened
        finally:
            opened.finish()
