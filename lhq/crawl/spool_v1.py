"""Reader of spools of format 1, in which papers and photos alternate in one file.

A record: `LHQ1`, length of the papers (u32), length of the photo (u64), CRC-32 of the papers (u32), all little-endian;
then the papers (JSON), then the photo's bytes. The papers hold the photo's sha256.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

_HEAD = struct.Struct("<4sIQI")
_MAGIC = b"LHQ1"


def is_v1(path: Path) -> bool:
    """Whether a spool is of format 1."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def records(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield (papers, photo) of each record up to the first incomplete or damaged one."""
    with open(path, "rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            magic, papers_bytes, size_bytes, crc = _HEAD.unpack(head)
            if magic != _MAGIC or size_bytes > path.stat().st_size:
                return
            block, data = file.read(papers_bytes), file.read(size_bytes)
            if len(data) < size_bytes or zlib.crc32(block) != crc:
                return
            try:  # zeros after a header cut short by a power cut match the checksum of empty papers
                sha256 = json.loads(block)["sha256"]
            except (ValueError, KeyError, TypeError):
                return
            if hashlib.sha256(data).hexdigest() != sha256:
                return
            yield block, data
