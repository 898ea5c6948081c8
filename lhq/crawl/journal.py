"""The journal of a spool: one record a photo, with its papers and the place of its page in the other file.

A record of the journal: `LHQ2`, length of the papers (u32), offset and length of the page in the other file (u64, u64),
length of the photo (u64), CRC-32 of the photo (u32) and of the papers (u32), all little-endian; then the papers (JSON,
the columns of PHOTO_SCHEMA except `image`), which include the photo's sha256.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isal.isal_zlib import crc32

from lhq import system
from lhq.crawl.parquet_pages import MAGIC, page_header
from lhq.records import ADDED

HEADER = struct.Struct("<4sIQQQII")
_MAGIC = b"LHQ2"


@dataclass(frozen=True, slots=True)
class Entry:
    """The position of one photo: its record in the journal, its page in the file of photos."""

    id: str
    offset: int
    papers_bytes: int
    page_offset: int
    page_bytes: int
    size_bytes: int
    crc32: int

    @property
    def end(self) -> int:
        return self.offset + HEADER.size + self.papers_bytes

    @property
    def page_end(self) -> int:
        return self.page_offset + self.page_bytes


def record(papers: bytes, checksum: int, page: tuple[int, int, int, int]) -> bytes:
    """The record of a photo: `page` is offset and length of its page, then length and CRC-32 of its bytes."""
    return HEADER.pack(_MAGIC, len(papers), *page, checksum) + papers


def papers(block: bytes) -> dict[str, Any]:
    """The papers of a record."""
    found: dict[str, Any] = json.loads(block)
    return {**ADDED, **found}  # a record of an older version lacks the columns added since


def read_entries(path: Path, photos: int | None) -> Iterator[Entry]:
    """Yield the entries of intact photos. A damaged record or page costs its own photo only, wherever it is.

    Args:
        photos: descriptor of the file of photos, to verify the pages; None: don't verify them.
    """
    whole = path.read_bytes()
    offset, page_offset = 0, len(MAGIC)
    while offset >= 0:
        found = _entry_at(whole, offset)
        if found is None or found[0].page_offset < page_offset:
            offset = whole.find(_MAGIC, offset + 1)
            continue
        entry, sha256 = found
        offset = entry.end
        if photos is None or _is_intact(photos, entry, sha256):
            yield entry
            page_offset = entry.page_end


def _entry_at(whole: bytes, offset: int) -> tuple[Entry, str] | None:
    """(The entry, the photo's sha256) of the record that begins there; None if none does, or a damaged one."""
    if offset + HEADER.size > len(whole):
        return None
    magic, papers_bytes, *page, crc = HEADER.unpack_from(whole, offset)
    end = offset + HEADER.size + papers_bytes
    block = whole[offset + HEADER.size : end]
    if magic != _MAGIC or end > len(whole) or zlib.crc32(block) != crc:
        return None
    try:  # zeros after a header cut short by a power cut match the checksum of empty papers
        found = json.loads(block)
        return Entry(str(found["id"]), offset, papers_bytes, *page), found["sha256"]
    except (ValueError, KeyError, TypeError):
        return None


def _is_intact(photos: int, entry: Entry, sha256: str) -> bool:
    """Whether a photo's page is complete and its bytes are right."""
    if entry.size_bytes > entry.page_bytes or entry.page_end > os.fstat(photos).st_size:
        return False
    page = bytearray(entry.page_bytes)
    if system.read_parts(photos, [memoryview(page)], entry.page_offset) != len(page):
        return False
    data = bytes(page[entry.page_bytes - entry.size_bytes :])
    is_photo = crc32(data) == entry.crc32 and hashlib.sha256(data).hexdigest() == sha256
    return is_photo and page.startswith(page_header(data))
