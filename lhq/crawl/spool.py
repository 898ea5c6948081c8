"""Photo → page of the coming shard, on disk at once → sealed shard: two append-only files that survive any kill.

A Parquet file ends with a footer, and a shard takes minutes to fill. So every fetched photo is at once appended to the
coming shard as the page that it will be there (`spool/000123.photos`), and its papers to a journal
(`spool/000123.spool`): there both survive whatever happens to the process; the filesystem is asked to make them survive
a power cut every few seconds. A full spool is sealed: papers and footer are added, and the file is renamed to
`photos/000123.parquet`. So no photo is written twice, which cost a third of a crawl's processor time. Pages are copied
only where one is left out again, or where the store is not on the spool's disk. An incomplete last record is cut off.

A record of the journal: `LHQ2`, length of papers (u32), place and length of the page in the other file (u64, u64),
length of the photo (u64), CRC-32 of the photo (u32) and of the papers (u32), all little-endian; then the papers (JSON,
the columns of PHOTO_SCHEMA but `image`), which hold the photo's sha256.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from isal.isal_zlib import crc32

from lhq import system
from lhq.crawl import old_spool
from lhq.crawl.pages import MAGIC, check, ending, page_head
from lhq.crawl.shard_file import groups
from lhq.errors import StoreError
from lhq.records import ADDED
from lhq.store.atomic_file import write_atomically
from lhq.store.remote import is_local
from lhq.store.shards import Shards, key

MAX_PHOTOS = 1000
MAX_BYTES = 512 * 2**20

QueriesOf = Callable[[Sequence[str]], Mapping[str, Sequence[str]]]

_HEAD = struct.Struct("<4sIQQQII")
_RECORD = b"LHQ2"
_BLOCK = 4 * 2**20  # of pages that are copied
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one photo lies: its record in the journal, its page in the file of photos."""

    id: str
    at: int
    papers_bytes: int
    page_at: int
    page_bytes: int
    size_bytes: int
    crc32: int

    @property
    def end(self) -> int:
        return self.at + _HEAD.size + self.papers_bytes

    @property
    def page_end(self) -> int:
        return self.page_at + self.page_bytes


@dataclass(frozen=True, slots=True)
class Fresh:
    """A photo to be appended, with all that can be made of it before its place is known: what its page and its record
    hold. Many threads make these, while one appends."""

    id: str
    data: bytes | bytearray
    page_head: bytes
    checksum: int
    papers: bytes
    papers_checksum: int

    @classmethod
    def of(cls, papers: Mapping[str, Any], data: bytes | bytearray) -> Fresh:
        """Papers (the columns of PHOTO_SCHEMA but `image`) and bytes of one photo."""
        block = _encoder.encode(papers).encode("utf-8", "replace")
        return cls(str(papers["id"]), data, page_head(data), crc32(data), block, zlib.crc32(block))


class Spool:
    """The open shard's files.

    Args:
        folder: the local folder of the store; the spool lies in `spool/` inside.
        number: the shard it will become.
        is_sealed: the shard is there, so the journal is believed: a kill came between sealing and forgetting it.

    Raises:
        StoreError: it can't be opened or written.
    """

    def __init__(self, folder: str | os.PathLike[str], number: int, *, is_sealed: bool = False) -> None:
        self.number = number
        self.path = Path(folder) / "spool" / f"{key(number)}.spool"
        self.photos_path = self.path.with_suffix(".photos")
        self.entries: list[Entry] = []
        self._is_dirty = False
        self._freed_to = 0
        self._syncing = threading.Lock()
        self._fds: tuple[int, int] | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if old_spool.is_one(self.path):
                self._convert()
            self._fds = self._open()
            photos, journal = self._fds
            self.entries = list(_replay(self.path, None if is_sealed else photos))
            self._journal_bytes = self.entries[-1].end if self.entries else 0
            self.size_bytes = self.entries[-1].page_end if self.entries else len(MAGIC)
            os.ftruncate(journal, self._journal_bytes)
            if not is_sealed:
                os.ftruncate(photos, self.size_bytes)
                system.write_at(photos, MAGIC, 0)
            if not self.entries:
                system.sync_folder(self.path.parent)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def _open(self) -> tuple[int, int]:
        flags = os.O_RDWR | os.O_CREAT | system.O_BINARY
        photos = os.open(self.photos_path, flags, 0o666)
        return photos, os.open(self.path, flags, 0o666)

    def _convert(self) -> None:
        """Write a spool of an older version anew, in which the photos lay between their papers."""
        self.photos_path.unlink(missing_ok=True)
        aside = self.path.with_suffix(".journal")
        with open(self.photos_path, "wb") as photos, open(aside, "wb") as journal:
            photos.write(MAGIC)
            for papers, data in old_spool.records(self.path):
                head = page_head(data)
                page = photos.tell(), len(head) + len(data), len(data), crc32(data)
                photos.write(head + data)
                journal.write(_HEAD.pack(_RECORD, len(papers), *page, zlib.crc32(papers)) + papers)
            for file in (photos, journal):
                file.flush()
                os.fsync(file.fileno())
        os.replace(aside, self.path)

    @property
    def is_full(self) -> bool:
        return len(self.entries) >= MAX_PHOTOS or self.size_bytes >= MAX_BYTES

    def append(self, papers: Mapping[str, Any], data: bytes | bytearray) -> None:
        """Add one photo; as `extend`."""
        self.extend([Fresh.of(papers, data)])

    def extend(self, photos: Sequence[Fresh]) -> int:
        """Add photos, until the spool is full; when this returns, killing the process can't lose them.

        Returns:
            how many were added, one at least.

        Raises:
            StoreError: they can't be written (disk full); the spool is as it was before.
        """
        assert self._fds is not None
        at, page_at = self._journal_bytes, self.size_bytes
        entries: list[Entry] = []
        pages: list[memoryview] = []
        records: list[memoryview] = []
        for photo in photos:
            page = page_at, len(photo.page_head) + len(photo.data), len(photo.data), photo.checksum
            record = _HEAD.pack(_RECORD, len(photo.papers), *page, photo.papers_checksum) + photo.papers
            pages += [memoryview(photo.page_head), memoryview(photo.data)]
            records.append(memoryview(record))
            entries.append(Entry(photo.id, at, len(photo.papers), *page))
            at, page_at = at + len(record), page_at + page[1]
            if len(self.entries) + len(entries) >= MAX_PHOTOS or page_at >= MAX_BYTES:
                break
        try:
            _write_all(self._fds[0], pages, self.size_bytes)
            _write_all(self._fds[1], records, self._journal_bytes)
        except OSError as error:
            os.ftruncate(self._fds[1], self._journal_bytes)
            os.ftruncate(self._fds[0], self.size_bytes)
            raise _unwritable(self.path, error) from error
        self.entries += entries
        self._journal_bytes, self.size_bytes = at, page_at
        self._is_dirty = True
        return len(entries)

    def write_behind(self) -> None:
        """Let the disk work on what was appended, and let go of the memory of what it has: a crawl's bytes are not read
        again soon. Kept in memory until a sync, they pushed other programs' files out of it and took fresh pages all
        the time, which cost a virtual machine more than everything else that is done to a photo (1.3 ms of 4).
        """
        with self._syncing:
            if self._fds is not None and self.size_bytes > self._freed_to:
                system.start_writing(self._fds[0], self._freed_to)

    def sync(self) -> None:
        """Ask that everything appended so far survives a power cut; photos may be appended meanwhile.

        Raises:
            StoreError: the disk refuses (full, broken).
        """
        with self._syncing:
            if self._is_dirty and self._fds is not None:
                self._is_dirty = False
                ends = self.size_bytes
                try:
                    for fd in self._fds:
                        system.sync_data(fd)
                except OSError as error:
                    raise _unwritable(self.path, error) from error
                system.start_writing(self._fds[0], self._freed_to)
                self._freed_to = ends

    def seal(self, shards: Shards, queries_of: QueriesOf, unwanted: Set[str] = frozenset()) -> int:
        """Make the shard whole, then forget the spool; closes it in any case.

        Args:
            queries_of: ids → every query that each was met under, as known by now.
            unwanted: ids that are left out.

        Returns:
            how many photos the shard holds.

        Raises:
            StoreError: the shard can't be written; the spool stays as it is.
        """
        try:
            wanted = self._wanted(unwanted)
            if wanted and not shards.exists(self.number) and not self._becomes(shards, wanted, queries_of):
                write_atomically(shards.fs, shards.path(self.number), lambda sink: self._copy(sink, wanted, queries_of))
            # The journal last: as long as it is there, the next start looks after both.
            self.photos_path.unlink(missing_ok=True)
            self.path.unlink()
            return len(wanted)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        finally:
            self.close()

    def close(self) -> None:
        with self._syncing:
            if self._fds is not None:
                for fd in self._fds:
                    os.close(fd)
                self._fds = None

    def papers(self, entry: Entry) -> dict[str, Any]:
        """The papers of one photo, as they were appended."""
        assert self._fds is not None
        return _papers(system.read_at(self._fds[1], entry.papers_bytes, entry.at + _HEAD.size))

    def _wanted(self, unwanted: Set[str]) -> list[Entry]:
        """What the shard shall hold: every photo once, as it came last, in the order of the pages."""
        last = {entry.id: entry for entry in self.entries if entry.id not in unwanted}
        return sorted(last.values(), key=lambda entry: entry.page_at)

    def _becomes(self, shards: Shards, wanted: list[Entry], queries_of: QueriesOf) -> bool:
        """Finish the file of photos and give it its name in the store; False where it must be copied: it holds what the
        shard shall not, or the store is on another disk."""
        assert self._fds is not None
        if wanted != self.entries or not is_local(shards.fs):
            return False
        photos, path = self._fds[0], shards.path(self.number)
        folder = os.path.dirname(path)
        os.makedirs(folder, exist_ok=True)
        try:
            _write_all(photos, [memoryview(self._ending(wanted, queries_of, self.size_bytes))], self.size_bytes)
            os.fsync(photos)
            system.start_writing(photos, 0)
            self._check(wanted)
        except BaseException:
            os.ftruncate(photos, self.size_bytes)
            raise
        self.close()  # an open file can't be renamed everywhere
        try:
            os.replace(self.photos_path, path)
        except OSError as error:
            self._fds = self._open()
            os.ftruncate(self._fds[0], self.size_bytes)
            if error.errno != errno.EXDEV:
                raise
            return False
        system.sync_folder(folder)
        return True

    def _check(self, wanted: list[Entry]) -> None:
        try:
            check(self.photos_path, [*groups(wanted)])
        except (ValueError, pa.ArrowException) as error:
            raise StoreError(
                f"{self.photos_path}: the shard that it makes is not read as it should be by pyarrow {pa.__version__} "
                f"({error}); its photos are safe in the spool",
                hint="run again with the version of pyarrow that lhq was installed with, and report this",
            ) from error

    def _copy(self, sink: IO[bytes], wanted: list[Entry], queries_of: QueriesOf) -> None:
        """The shard, page by page."""
        assert self._fds is not None
        sink.write(MAGIC)
        ends = len(MAGIC)
        for entry in wanted:
            for at in range(entry.page_at, entry.page_end, _BLOCK):
                block = system.read_at(self._fds[0], min(_BLOCK, entry.page_end - at), at)
                if not block:
                    raise OSError(f"{self.photos_path} ends too early")
                sink.write(block)
            ends += entry.page_bytes
        sink.write(self._ending(wanted, queries_of, ends))

    def _ending(self, wanted: list[Entry], queries_of: QueriesOf, ends: int) -> bytes:
        """Papers and footer of the shard, whose pages end there."""
        rows: list[list[dict[str, Any]]] = []
        in_groups = list(groups(wanted))
        for group in in_groups:
            known = queries_of([entry.id for entry in group])
            rows.append([self.papers(entry) for entry in group])
            for row in rows[-1]:
                row["queries"] = list(known.get(row["id"]) or row["queries"])
        return ending(in_groups, rows, [entry.crc32 for entry in wanted], ends)


def _write_all(fd: int, parts: Sequence[memoryview], at: int) -> None:
    left = system.rest(parts, 0)
    while left:
        num = system.write_parts(fd, left, at)
        left, at = system.rest(left, num), at + num


def _papers(block: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(block)
    return {**ADDED, **found}  # a record of an older version lacks the columns added since


def open_numbers(folder: str | os.PathLike[str]) -> list[int]:
    """Numbers of the spools that were left open, ascending."""
    return sorted(
        int(path.stem) for path in (Path(folder) / "spool").glob("*.spool") if path.stem.isdigit() and path.is_file()
    )


def _replay(path: Path, photos: int | None) -> Iterator[Entry]:
    """Whole records from the start; stops before the first incomplete or damaged one.

    Args:
        photos: the file that their photos are looked at in; None: they are believed.
    """
    journal = path.read_bytes()
    at, page_at = 0, len(MAGIC)
    while at + _HEAD.size <= len(journal):
        magic, papers_bytes, *page, crc = _HEAD.unpack_from(journal, at)
        end = at + _HEAD.size + papers_bytes
        block = journal[at + _HEAD.size : end]
        if magic != _RECORD or end > len(journal) or zlib.crc32(block) != crc or page[0] != page_at:
            return
        try:  # zeros after a header cut short by a power cut match the checksum of empty papers
            papers = json.loads(block)
            id, sha256 = str(papers["id"]), papers["sha256"]
        except (ValueError, KeyError, TypeError):
            return
        entry = Entry(id, at, papers_bytes, *page)
        if photos is not None and not _is_there(photos, entry, sha256):
            return
        yield entry
        at, page_at = end, entry.page_end


def _is_there(photos: int, entry: Entry, sha256: str) -> bool:
    """Whether a photo's page is whole."""
    page = bytearray(entry.page_bytes)
    if system.read_parts(photos, [memoryview(page)], entry.page_at) != len(page):
        return False
    data = bytes(page[entry.page_bytes - entry.size_bytes :])
    return hashlib.sha256(data).hexdigest() == sha256 and page.startswith(page_head(data))


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: can't be written ({error})", hint="free space or mend permissions, then run again")
