"""Photo → record on disk at once → sealed shard: an append-only file that survives any kill.

Parquet can't be appended to, and a shard takes minutes to fill. So every fetched photo is first appended to the
open shard's spool (`spool/000123.spool`), where it survives whatever happens to the process; the filesystem is
asked to make it survive a power cut every few seconds. A full spool is sealed into `photos/000123.parquet`, in
row groups of at most 16 MB so that memory stays flat, and then removed. An incomplete last record is cut off on
opening.

A record: `LHQ1`, length of papers (u32), length of bytes (u64), CRC-32 of the papers (u32), all little-endian;
then the papers (JSON, the columns of PHOTO_SCHEMA but `image`), then the photo's bytes, whose sha256 the papers hold.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from isal.isal_zlib import crc32

from lhq import system
from lhq.crawl.shard_file import PhotoFile, groups, on_disk, writer
from lhq.errors import StoreError
from lhq.images import Header
from lhq.records import ADDED, PHOTO_SCHEMA, Candidate
from lhq.rights.licences import LICENCES
from lhq.rights.reservations import Evidence
from lhq.store.remote import is_local
from lhq.store.shards import Shards, key, write_whole

MAX_PHOTOS = 1000
MAX_BYTES = 512 * 2**20
GROW_EVERY_S = 0.05

QueriesOf = Callable[[Sequence[str]], Mapping[str, Sequence[str]]]

_HEAD = struct.Struct("<4sIQI")
_MAGIC = b"LHQ1"


def papers_of(
    candidate: Candidate, header: Header, url: str, fetched_at: datetime, evidence: Evidence | None = None
) -> dict[str, Any]:
    """The columns of PHOTO_SCHEMA for one photo, but `image` (and `queries`, which are joined on sealing).

    Args:
        evidence: what its host, file and author said about use; None: nobody was asked.
    """
    licence = LICENCES[candidate.licence]
    return {
        "id": candidate.id,
        "source": candidate.source,
        "source_id": candidate.source_id,
        "url": url,
        "page_url": candidate.page_url,
        "author": candidate.author,
        "author_url": candidate.author_url,
        "licence": licence.id,
        "licence_version": licence.version,
        "licence_url": licence.url,
        "permission": candidate.permission,
        "permits": list(candidate.permits),
        "permission_by": candidate.permission_by,
        "permission_on": candidate.permission_on,
        "queries": [candidate.query] if candidate.query else [],
        "title": candidate.title,
        "description": candidate.description,
        "tags": list(candidate.tags),
        "taken_at": candidate.taken_at,
        "attribution": candidate.attribution,
        "latitude": candidate.latitude,
        "longitude": candidate.longitude,
        "camera": candidate.camera,
        **(evidence or Evidence({})).papers(),
        "fetched_at": int(fetched_at.timestamp() * 1000),
        "sha256": header.sha256,
        "size_bytes": header.size_bytes,
        "format": header.format,
        "width_px": header.width_px,
        "height_px": header.height_px,
        "orientation": header.orientation,
    }


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one photo lies in a spool."""

    id: str
    at: int
    papers_bytes: int
    size_bytes: int
    crc32: int

    @property
    def end(self) -> int:
        return self.at + _HEAD.size + self.papers_bytes + self.size_bytes


class Spool:
    """The open shard's file.

    Args:
        folder: the local folder of the store; the spool lies in `spool/` inside.
        number: the shard it will become.

    Raises:
        StoreError: it can't be opened or written.
    """

    def __init__(self, folder: str | os.PathLike[str], number: int) -> None:
        self.number = number
        self.path = Path(folder) / "spool" / f"{key(number)}.spool"
        self.entries: list[Entry] = []
        self._is_dirty = False
        self._syncing = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | system.O_BINARY, 0o644)
            self.entries = list(_replay(self.path))
            self.size_bytes = self.entries[-1].end if self.entries else 0
            os.ftruncate(self._fd, self.size_bytes)
            if not self.size_bytes:
                system.sync_folder(self.path.parent)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    @property
    def is_full(self) -> bool:
        return len(self.entries) >= MAX_PHOTOS or self.size_bytes >= MAX_BYTES

    def has_room_for(self, num: int) -> bool:
        """Will so many more photos fit, if they are as large as those that are here?"""
        mean_bytes = self.size_bytes / len(self.entries) if self.entries else MAX_BYTES
        return len(self.entries) + num <= MAX_PHOTOS and self.size_bytes + num * mean_bytes <= MAX_BYTES

    def append(self, papers: Mapping[str, Any], data: bytes | bytearray, checksum: int | None = None) -> None:
        """Add one photo; when this returns, killing the process can't lose it.

        Args:
            checksum: the CRC-32 of its bytes, where it is known.

        Raises:
            StoreError: it can't be written (disk full); the spool is as it was before.
        """
        block = json.dumps(papers, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        head = _HEAD.pack(_MAGIC, len(block), len(data), zlib.crc32(block))
        left, at = [memoryview(head), memoryview(block), memoryview(data)], self.size_bytes
        try:
            while left := system.rest(left, 0):
                num = system.write_parts(self._fd, left, at)
                left, at = system.rest(left, num), at + num
        except OSError as error:
            os.ftruncate(self._fd, self.size_bytes)
            raise _unwritable(self.path, error) from error
        checksum = crc32(data) if checksum is None else checksum
        self.entries.append(Entry(str(papers["id"]), self.size_bytes, len(block), len(data), checksum))
        self.size_bytes = at
        self._is_dirty = True

    def sync(self) -> None:
        """Ask that everything appended so far survives a power cut; photos may be appended meanwhile.

        Raises:
            StoreError: the disk refuses (full, broken).
        """
        with self._syncing:
            if self._is_dirty and self._fd >= 0:
                self._is_dirty = False
                try:
                    os.fdatasync(self._fd)
                except OSError as error:
                    raise _unwritable(self.path, error) from error

    def seal(
        self,
        shards: Shards,
        queries_of: QueriesOf,
        unwanted: Set[str] = frozenset(),
        is_whole: threading.Event | None = None,
    ) -> int:
        """Write the shard whole, then remove the spool; closes it in any case.

        Args:
            queries_of: ids → every query that each was met under, as known by now.
            unwanted: ids that are left out.
            is_whole: set when the last photo was appended, for a shard that is begun before: its row groups are
                written as they fill, so that little is left to do at the end. None: it is whole now.

        Returns:
            how many photos the shard holds.

        Raises:
            StoreError: the shard can't be written; the spool stays as it is.
        """
        try:
            if is_whole is not None:
                self._seal_early(shards, queries_of, unwanted, is_whole)
            wanted = self._wanted(unwanted)
            if wanted and not shards.exists(self.number):
                write_whole(shards.fs, shards.path(self.number), lambda sink: self._write(sink, wanted, queries_of))
            os.unlink(self.path)
            return len(wanted)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        finally:
            self.close()

    def close(self) -> None:
        with self._syncing:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _wanted(self, unwanted: Set[str]) -> list[Entry]:
        """What the shard shall hold: every photo once, as it came last."""
        return [*{entry.id: entry for entry in [*self.entries] if entry.id not in unwanted}.values()]

    def _seal_early(self, shards: Shards, queries_of: QueriesOf, unwanted: Set[str], is_whole: threading.Event) -> None:
        """Write the shard while photos still come; there is none afterwards where it came out otherwise than it
        should: a photo was left out or came again, or was met under another query, after it had been written."""
        if not is_local(shards.fs) or shards.exists(self.number):  # an upload that waits for hours is none
            is_whole.wait()
            return

        def write(sink: IO[bytes]) -> None:
            done: list[Entry] = []
            known: dict[str, Sequence[str]] = {}
            with on_disk(sink) as file, writer(file) as shard:
                while not is_whole.wait(GROW_EVERY_S):
                    for group in groups(self._wanted(unwanted)[len(done) :], is_open=True):
                        known |= self._add(shard, group, queries_of)
                        done += group
                wanted = self._wanted(unwanted)
                if done != wanted[: len(done)] or dict(queries_of([entry.id for entry in done])) != known:
                    raise _OtherwiseError
                for group in groups(wanted[len(done) :]):
                    self._add(shard, group, queries_of)

        with contextlib.suppress(_OtherwiseError):
            write_whole(shards.fs, shards.path(self.number), write)

    def _write(self, sink: IO[bytes], entries: list[Entry], queries_of: QueriesOf) -> None:
        with on_disk(sink) as file, writer(file) as shard:
            for group in groups(entries):
                self._add(shard, group, queries_of)

    def _add(self, shard: PhotoFile, group: list[Entry], queries_of: QueriesOf) -> Mapping[str, Sequence[str]]:
        """Write a row group; returns what is known of its photos' queries."""
        rows, images = self._read(group)
        known = queries_of([entry.id for entry in group])
        for row in rows:
            row["queries"] = list(known.get(row["id"]) or row["queries"])
        columns = [name for name in PHOTO_SCHEMA.names if name != "image"]
        arrays = [pa.array([row[name] for row in rows], PHOTO_SCHEMA.field(name).type) for name in columns]
        table = pa.Table.from_arrays([*arrays, images], schema=PHOTO_SCHEMA)
        shard.add(table, [entry.crc32 for entry in group])
        return known

    def papers(self, entry: Entry) -> dict[str, Any]:
        """The papers of one photo, as they were appended."""
        return _papers(system.read_at(self._fd, entry.papers_bytes, entry.at + _HEAD.size))

    def _read(self, group: list[Entry]) -> tuple[list[dict[str, Any]], pa.Array]:
        """The papers of photos, and their bytes as one Arrow array, read straight into its buffer. Not mapped: a
        mapped spool of half a gigabyte would count as this process's memory."""
        offsets = [0]
        for entry in group:
            offsets.append(offsets[-1] + entry.size_bytes)
        values = pa.allocate_buffer(offsets[-1])
        target = memoryview(values).cast("B")
        texts = [memoryview(bytearray(_HEAD.size + entry.papers_bytes)) for entry in group]
        runs: list[tuple[int, list[memoryview]]] = []  # a read each: where one begins, what it fills
        end = -1
        for entry, text, start in zip(group, texts, offsets, strict=False):
            if entry.at != end:
                runs.append((entry.at, []))
            runs[-1][1].extend([text, target[start : start + entry.size_bytes]])
            end = entry.end
        for at, parts in runs:
            left = parts
            while left := system.rest(left, 0):
                num = system.read_parts(self._fd, left, at)
                if not num:
                    raise OSError(f"{self.path} ends too early")
                left, at = system.rest(left, num), at + num
        images = pa.Array.from_buffers(
            pa.binary(), len(group), [None, pa.array(offsets, pa.int32()).buffers()[1], values]
        )
        return [_papers(bytes(text[_HEAD.size :])) for text in texts], images


def _papers(block: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(block)
    return {**ADDED, **found}  # a record of an older version lacks the columns added since


def open_numbers(folder: str | os.PathLike[str]) -> list[int]:
    """Numbers of the spools that were left open, ascending."""
    return sorted(
        int(path.stem) for path in (Path(folder) / "spool").glob("*.spool") if path.stem.isdigit() and path.is_file()
    )


def _replay(path: Path) -> Iterator[Entry]:
    """Whole records from the start; stops before the first incomplete or damaged one."""
    size = path.stat().st_size
    if not size:
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as memory:
        at = 0
        while at + _HEAD.size <= size:
            magic, papers_bytes, size_bytes, crc = _HEAD.unpack_from(memory, at)
            end = at + _HEAD.size + papers_bytes + size_bytes
            if magic != _MAGIC or end > size:
                return
            block = memory[at + _HEAD.size : at + _HEAD.size + papers_bytes]
            if zlib.crc32(block) != crc:
                return
            try:  # zeros after a header cut short by a power cut match the checksum of empty papers
                papers = json.loads(block)
                id, sha256 = str(papers["id"]), papers["sha256"]
            except (ValueError, KeyError, TypeError):
                return
            with memoryview(memory) as view, view[end - size_bytes : end] as data:
                if hashlib.sha256(data).hexdigest() != sha256:
                    return
                checksum = crc32(data)
            yield Entry(id, at, papers_bytes, size_bytes, checksum)
            at = end


class _OtherwiseError(Exception):
    """What was written of a shard is not what it shall hold."""


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: can't be written ({error})", hint="free space or mend permissions, then run again")


def now() -> datetime:
    """The time that `fetched_at` records."""
    return datetime.now(UTC)
