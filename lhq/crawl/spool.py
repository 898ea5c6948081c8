"""Photo → record on disk at once → sealed shard: an append-only file that no kill can hurt.

Parquet can't be appended to, and a shard takes minutes to fill. So every fetched photo is first appended to the
open shard's spool (`spool/000123.spool`), where it survives whatever happens to the process; the filesystem is
asked to make it survive a power cut every few seconds. A full spool is sealed into `photos/000123.parquet`, in
row groups of at most 16 MB so that memory stays flat, and then removed. A torn last record is cut off on opening.

A record: `LHQ1`, length of papers (u32), length of bytes (u64), CRC-32 of the papers (u32), all little-endian;
then the papers (JSON, the columns of PHOTO_SCHEMA but `image`), then the photo's bytes, whose sha256 the papers hold.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from lhq import system
from lhq.errors import StoreError
from lhq.images import Header
from lhq.records import ADDED, PHOTO_SCHEMA, Candidate
from lhq.rights.licences import LICENCES
from lhq.rights.reservations import Evidence
from lhq.store.shards import CHECKSUMS, Shards, key, write_whole
from lhq.store.sums import SUMS, crc32s, encoded

MAX_PHOTOS = 1000
MAX_BYTES = 512 * 2**20
ROW_GROUP_BYTES = 16 * 2**20

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
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | system.O_BINARY, 0o644)
            self.entries = list(_replay(self.path))
            last = self.entries[-1] if self.entries else None
            self.size_bytes = last.at + _HEAD.size + last.papers_bytes + last.size_bytes if last else 0
            os.ftruncate(self._fd, self.size_bytes)
            if not self.size_bytes:
                system.sync_folder(self.path.parent)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    @property
    def is_full(self) -> bool:
        return len(self.entries) >= MAX_PHOTOS or self.size_bytes >= MAX_BYTES

    def append(self, papers: Mapping[str, Any], data: bytes | bytearray) -> None:
        """Add one photo; when this returns, killing the process can't lose it.

        Raises:
            StoreError: it can't be written (disk full); the spool is as it was before.
        """
        block = json.dumps(papers, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        parts = [memoryview(_HEAD.pack(_MAGIC, len(block), len(data), zlib.crc32(block)) + block), memoryview(data)]
        at = self.size_bytes
        try:
            for part in parts:
                while part:
                    num = system.write_at(self._fd, part, at)
                    at += num
                    part = part[num:]
        except OSError as error:
            os.ftruncate(self._fd, self.size_bytes)
            raise _unwritable(self.path, error) from error
        self.entries.append(Entry(str(papers["id"]), self.size_bytes, len(block), len(data)))
        self.size_bytes = at
        self._is_dirty = True

    def sync(self) -> None:
        """Ask that everything appended so far survives a power cut."""
        if self._is_dirty:
            self._is_dirty = False
            os.fdatasync(self._fd)

    def seal(
        self,
        shards: Shards,
        queries_of: Callable[[Sequence[str]], Mapping[str, Sequence[str]]],
        unwanted: frozenset[str] = frozenset(),
    ) -> int:
        """Write the shard whole, then remove the spool; closes it in any case.

        Args:
            queries_of: ids → every query that each was met under, as known by now.
            unwanted: ids that are left out.

        Returns:
            how many photos the shard holds.

        Raises:
            StoreError: the shard can't be written; the spool stays as it is.
        """
        try:
            latest = {entry.id: entry for entry in self.entries if entry.id not in unwanted}
            if latest and not shards.exists(self.number):
                write_whole(
                    shards.fs, shards.path(self.number), lambda sink: self._write(sink, [*latest.values()], queries_of)
                )
            os.unlink(self.path)
            return len(latest)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        finally:
            self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(
        self, sink: IO[bytes], entries: list[Entry], queries_of: Callable[[Sequence[str]], Mapping[str, Sequence[str]]]
    ) -> None:
        columns = [name for name in PHOTO_SCHEMA.names if name != "image"]
        with writer(sink) as shard:
            for group in _groups(entries):
                rows = [self.papers(entry) for entry in group]
                known = queries_of([entry.id for entry in group])
                for row in rows:
                    row["queries"] = list(known.get(row["id"]) or row["queries"])
                arrays = [pa.array([row[name] for row in rows], PHOTO_SCHEMA.field(name).type) for name in columns]
                arrays.append(self._images(group))
                shard.write_table(pa.Table.from_arrays(arrays, schema=PHOTO_SCHEMA))

    def papers(self, entry: Entry) -> dict[str, Any]:
        """The papers of one photo, as they were appended."""
        found: dict[str, Any] = json.loads(system.read_at(self._fd, entry.papers_bytes, entry.at + _HEAD.size))
        return {**ADDED, **found}  # a record of an older version lacks the columns added since

    def _images(self, group: list[Entry]) -> pa.Array:
        """The photos' bytes as one Arrow array, read straight into its buffer. Not mapped: a mapped spool of half
        a gigabyte would count as this process's memory."""
        offsets = [0]
        for entry in group:
            offsets.append(offsets[-1] + entry.size_bytes)
        values = pa.allocate_buffer(offsets[-1])
        target = memoryview(values).cast("B")
        for entry, start in zip(group, offsets, strict=False):
            at = entry.at + _HEAD.size + entry.papers_bytes
            part = target[start : start + entry.size_bytes]
            while part:
                num = system.read_into(self._fd, part, at)
                if not num:
                    raise OSError(f"{self.path} ends within {entry.id}")
                part, at = part[num:], at + num
        return pa.Array.from_buffers(
            pa.binary(), len(group), [None, pa.array(offsets, pa.int32()).buffers()[1], values]
        )


class _PhotoWriter(pq.ParquetWriter):  # type: ignore[misc]
    """Notes the CRC-32 of each photo that it writes, and states them when it is closed."""

    _sums: list[int] | None = None

    def write_table(self, table: pa.Table, *args: Any, **options: Any) -> None:
        self._sums = (self._sums or []) + crc32s(table["image"])
        super().write_table(table, *args, **options)

    def close(self) -> None:
        if self.is_open and self._sums is not None:
            self.add_key_value_metadata({SUMS: encoded(self._sums)})
        super().close()


def writer(sink: IO[bytes], *, is_fresh: bool = True) -> pq.ParquetWriter:
    """The writer of photo shards: bytes as they are, papers packed, no statistics over pictures.

    Args:
        is_fresh: the photos come from where they were hashed. False where they are copied from a shard, whose pages may
            have rotted since: their new checksums then prove nothing, and readers go by each photo's sha256.
    """
    return (_PhotoWriter if is_fresh else pq.ParquetWriter)(
        sink,
        PHOTO_SCHEMA.with_metadata({CHECKSUMS: "pages"} if is_fresh else None),
        compression={name: "none" if name == "image" else "zstd" for name in PHOTO_SCHEMA.names},
        use_dictionary=["source", "licence", "licence_version", "licence_url", "permission", "format"],
        write_statistics=["id", "source", "licence", "width_px", "height_px", "fetched_at"],  # what is sought by
        write_page_checksum=True,
        write_batch_size=1,  # a page a photo, or some small ones: whoever streams a row group never holds it twice
    )


def open_numbers(folder: str | os.PathLike[str]) -> list[int]:
    """Numbers of the spools that were left open, ascending."""
    return sorted(
        int(path.stem) for path in (Path(folder) / "spool").glob("*.spool") if path.stem.isdigit() and path.is_file()
    )


def _replay(path: Path) -> Iterator[Entry]:
    """Whole records from the start; ends before the first that is torn or damaged."""
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
            try:  # zeros after a head that a power cut tore have the checksum of papers of no length
                papers = json.loads(block)
                id, sha256 = str(papers["id"]), papers["sha256"]
            except (ValueError, KeyError, TypeError):
                return
            with memoryview(memory) as view, view[end - size_bytes : end] as data:
                if hashlib.sha256(data).hexdigest() != sha256:
                    return
            yield Entry(id, at, papers_bytes, size_bytes)
            at = end


def _groups(entries: list[Entry]) -> Iterator[list[Entry]]:
    group: list[Entry] = []
    size = 0
    for entry in entries:
        if group and size + entry.size_bytes > ROW_GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(entry)
        size += entry.size_bytes
    if group:
        yield group


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: can't be written ({error})", hint="free space or mend permissions, then run again")


def now() -> datetime:
    """The time that `fetched_at` records."""
    return datetime.now(UTC)
