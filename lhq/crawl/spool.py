"""The crash-safe spool of the open shard: two append-only files that become a Parquet file when it is full.

A Parquet file ends with a footer, and a shard takes minutes to fill. So each fetched photo is at once appended as a
Parquet page to the future shard (`spool/000123.photos`), and its papers to a journal (`spool/000123.spool`). Both
survive the end of the process; every few seconds they are synced, to survive a power cut. A full spool is sealed:
papers and footer are added, and the file is renamed to `photos/000123.parquet`, so photos are written only once
(writing them twice took a third of a crawl's CPU time). Pages are copied only if some must be left out, or if the store
is on another disk. An incomplete last record is cut off; a damaged one, or one with a damaged page, is passed over.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from isal.isal_zlib import crc32

from lhq import system
from lhq.crawl import journal, spool_v1
from lhq.crawl.journal import Entry
from lhq.crawl.parquet_pages import MAGIC, check_with_arrow, page_header, papers_and_footer
from lhq.crawl.shard_file import groups
from lhq.errors import StoreError
from lhq.store.atomic_file import write_atomically
from lhq.store.remote import is_local
from lhq.store.shards import Shards, key

MAX_PHOTOS = 1000
MAX_BYTES = 512 * 2**20

QueriesOf = Callable[[Sequence[str]], Mapping[str, Sequence[str]]]

_COPY_BYTES = 4 * 2**20  # of pages that are copied
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class PreparedPhoto:
    """A photo to append, with the parts of its page and record that don't depend on its position; prepared by many
    threads, appended by one."""

    id: str
    data: bytes | bytearray
    page_header: bytes
    checksum: int
    papers: bytes
    papers_checksum: int

    @classmethod
    def of(cls, papers: Mapping[str, Any], data: bytes | bytearray) -> PreparedPhoto:
        """Prepare a photo from its papers (the columns of PHOTO_SCHEMA except `image`) and its bytes."""
        block = _encoder.encode(papers).encode("utf-8", "replace")
        return cls(str(papers["id"]), data, page_header(data), crc32(data), block, zlib.crc32(block))


class Spool:
    """The open shard's two files.

    Args:
        folder: the local folder of the store; the files are in its `spool/`.
        number: of the shard.
        is_sealed: the shard exists already (the process was killed after sealing it), so pages aren't verified.

    Raises:
        StoreError: the files can't be opened or written.
    """

    def __init__(self, folder: str | os.PathLike[str], number: int, *, is_sealed: bool = False) -> None:
        self.number = number
        self.path = Path(folder) / "spool" / f"{key(number)}.spool"
        self.photos_path = self.path.with_suffix(".photos")
        self.entries: list[Entry] = []
        self._is_dirty = False
        self._written_to = 0
        self._syncing = threading.Lock()
        self._fds: tuple[int, int] | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if spool_v1.is_v1(self.path):
                self._upgrade()
            self._fds = self._open()
            photos, papers = self._fds
            self.entries = list(journal.read_entries(self.path, None if is_sealed else photos))
            self._journal_bytes = self.entries[-1].end if self.entries else 0
            self.size_bytes = self.entries[-1].page_end if self.entries else len(MAGIC)
            os.ftruncate(papers, self._journal_bytes)
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

    def _upgrade(self) -> None:
        """Convert a spool of format 1 to the present format."""
        self.photos_path.unlink(missing_ok=True)
        temporary = self.path.with_suffix(".journal")
        with open(self.photos_path, "wb") as photos, open(temporary, "wb") as records:
            photos.write(MAGIC)
            for papers, data in spool_v1.records(self.path):
                header = page_header(data)
                page = photos.tell(), len(header) + len(data), len(data), crc32(data)
                photos.write(header + data)
                records.write(journal.record(papers, zlib.crc32(papers), page))
            for file in (photos, records):
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, self.path)

    @property
    def is_full(self) -> bool:
        return len(self.entries) >= MAX_PHOTOS or self.size_bytes >= MAX_BYTES

    def append(self, papers: Mapping[str, Any], data: bytes | bytearray) -> None:
        """Add one photo; as `extend`."""
        self.extend([PreparedPhoto.of(papers, data)])

    def extend(self, photos: Sequence[PreparedPhoto]) -> int:
        """Append photos until the spool is full; after that, killing the process can't lose them.

        Returns:
            the number of photos appended, at least one.

        Raises:
            StoreError: they can't be written (disk full); the spool is unchanged.
        """
        assert self._fds is not None
        offset, page_offset = self._journal_bytes, self.size_bytes
        entries: list[Entry] = []
        pages: list[memoryview] = []
        records: list[memoryview] = []
        for photo in photos:
            page = page_offset, len(photo.page_header) + len(photo.data), len(photo.data), photo.checksum
            record = journal.record(photo.papers, photo.papers_checksum, page)
            pages += [memoryview(photo.page_header), memoryview(photo.data)]
            records.append(memoryview(record))
            entries.append(Entry(photo.id, offset, len(photo.papers), *page))
            offset, page_offset = offset + len(record), page_offset + page[1]
            if len(self.entries) + len(entries) >= MAX_PHOTOS or page_offset >= MAX_BYTES:
                break
        try:
            _write_all(self._fds[0], pages, self.size_bytes)
            _write_all(self._fds[1], records, self._journal_bytes)
        except OSError as error:
            os.ftruncate(self._fds[1], self._journal_bytes)
            os.ftruncate(self._fds[0], self.size_bytes)
            raise _unwritable(self.path, error) from error
        self.entries += entries
        self._journal_bytes, self.size_bytes = offset, page_offset
        self._is_dirty = True
        return len(entries)

    def write_behind(self) -> None:
        """Start writing appended bytes to disk, and drop those that are written from the page cache.

        A crawl's bytes aren't read again soon. Kept in the cache until a sync, they evicted other files and needed new
        pages all the time, which on a virtual machine took 1.3 of 4 ms per photo.
        """
        with self._syncing:
            if self._fds is not None and self.size_bytes > self._written_to:
                system.start_writing(self._fds[0], self._written_to)

    def sync(self) -> None:
        """Flush everything appended so far to disk, so that it survives a power cut; appending may continue meanwhile.

        Raises:
            StoreError: the disk is full or failing.
        """
        with self._syncing:
            if self._is_dirty and self._fds is not None:
                self._is_dirty = False
                pages_end = self.size_bytes
                try:
                    for fd in self._fds:
                        system.sync_data(fd)
                except OSError as error:
                    raise _unwritable(self.path, error) from error
                system.start_writing(self._fds[0], self._written_to)
                self._written_to = pages_end

    def seal(self, shards: Shards, queries_of: QueriesOf, unwanted: Set[str] = frozenset()) -> int:
        """Write the shard, then delete the spool; closes it in any case.

        Args:
            queries_of: ids → all queries that found each photo, as known by now.
            unwanted: ids to leave out.

        Returns:
            the number of photos in the shard.

        Raises:
            StoreError: the shard can't be written; the spool is unchanged.
        """
        try:
            wanted = self._wanted(unwanted)
            if wanted and not shards.exists(self.number) and not self._rename_into_store(shards, wanted, queries_of):
                write_atomically(shards.fs, shards.path(self.number), lambda sink: self._copy(sink, wanted, queries_of))
            # The journal last: as long as it exists, the next start handles both files.
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
        """Read the papers of one photo."""
        assert self._fds is not None
        return journal.papers(system.read_at(self._fds[1], entry.papers_bytes, entry.offset + journal.HEADER.size))

    def _wanted(self, unwanted: Set[str]) -> list[Entry]:
        """The entries of the shard: each photo once, its last version, in the order of pages."""
        last = {entry.id: entry for entry in self.entries if entry.id not in unwanted}
        return sorted(last.values(), key=lambda entry: entry.page_offset)

    def _rename_into_store(self, shards: Shards, wanted: list[Entry], queries_of: QueriesOf) -> bool:
        """Complete the file of photos and rename it to the shard.

        Returns False if it must be copied instead: it has unwanted or damaged pages, or the store is on another disk.
        """
        assert self._fds is not None
        ends = [len(MAGIC), *(entry.page_end for entry in wanted)]
        has_gaps = any(entry.page_offset != end for entry, end in zip(wanted, ends, strict=False))
        if wanted != self.entries or has_gaps or not is_local(shards.fs):
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
        self.close()  # some systems can't rename an open file
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
            check_with_arrow(self.photos_path, [*groups(wanted)])
        except (ValueError, pa.ArrowException) as error:
            raise StoreError(
                f"{self.photos_path}: the shard that it makes is not read as it should be by pyarrow {pa.__version__} "
                f"({error}); its photos are safe in the spool",
                hint="run again with the version of pyarrow that lhq was installed with, and report this",
            ) from error

    def _copy(self, sink: IO[bytes], wanted: list[Entry], queries_of: QueriesOf) -> None:
        """Write the shard by copying the wanted pages."""
        assert self._fds is not None
        sink.write(MAGIC)
        pages_end = len(MAGIC)
        for entry in wanted:
            for offset in range(entry.page_offset, entry.page_end, _COPY_BYTES):
                block = system.read_at(self._fds[0], min(_COPY_BYTES, entry.page_end - offset), offset)
                if not block:
                    raise OSError(f"{self.photos_path} ends too early")
                sink.write(block)
            pages_end += entry.page_bytes
        sink.write(self._ending(wanted, queries_of, pages_end))

    def _ending(self, wanted: list[Entry], queries_of: QueriesOf, pages_end: int) -> bytes:
        """Papers and footer of the shard whose pages end at `pages_end`."""
        rows: list[list[dict[str, Any]]] = []
        row_groups = list(groups(wanted))
        for group in row_groups:
            known = queries_of([entry.id for entry in group])
            rows.append([self.papers(entry) for entry in group])
            for row in rows[-1]:
                row["queries"] = list(known.get(row["id"]) or row["queries"])
        return papers_and_footer(row_groups, rows, [entry.crc32 for entry in wanted], pages_end)


def _write_all(fd: int, parts: Sequence[memoryview], offset: int) -> None:
    remaining = system.rest(parts, 0)
    while remaining:
        num = system.write_parts(fd, remaining, offset)
        remaining, offset = system.rest(remaining, num), offset + num


def open_numbers(folder: str | os.PathLike[str]) -> list[int]:
    """Numbers of the open shards, ascending."""
    return sorted(
        int(path.stem) for path in (Path(folder) / "spool").glob("*.spool") if path.stem.isdigit() and path.is_file()
    )


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: can't be written ({error})", hint="free space or mend permissions, then run again")
