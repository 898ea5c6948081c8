"""Photos as the pages of a Parquet file that is not finished yet, and what finishes it: papers and footer.

A shard's photos are one column, plain, a page a photo, so a page can be written when its photo comes. What a footer
must say of it is known only at the end. Arrow writes whole row groups or nothing, so it is given the papers with empty
pictures, in memory; from what it makes the papers' columns are taken as they are, and the footer with the pictures'
places and sizes set right.
Source: https://parquet.apache.org/docs/file-format/ and `parquet.thrift`, whose field numbers stand below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from isal.isal_zlib import crc32

from lhq.crawl.arrays import array
from lhq.crawl.shard_file import writer
from lhq.records import PHOTO_SCHEMA
from lhq.store.thrift import I32, I64, LIST, STRUCT, Struct, decoded, encoded, zigzag

MAGIC = b"PAR1"

# FileMetaData, RowGroup, ColumnChunk, ColumnMetaData, PageEncodingStats, SizeStatistics.
_ROW_GROUPS = 4
_COLUMNS, _TOTAL_BYTES, _GROUP_OFFSET, _GROUP_COMPRESSED = 1, 2, 5, 6
_CHUNK_OFFSET, _META = 2, 3
_PATH, _UNCOMPRESSED, _COMPRESSED, _DATA_AT, _DICTIONARY_AT, _ENCODING_STATS, _SIZES = 3, 6, 7, 9, 11, 13, 16
_COUNT, _BYTE_ARRAY_BYTES = 3, 1

# A PageHeader with the sizes and checksum left open: a data page, then how long it is, as it is and packed (which it
# isn't), its checksum, and a DataPageHeader: one value, plain, and levels that there are none of as runs.
_ONE_VALUE: Struct = {1: (I32, 1), 2: (I32, 0), 3: (I32, 3), 4: (I32, 3)}
_DATA_PAGE = encoded({1: (I32, 0)})[:-1]
_NEXT_I32 = bytes([1 << 4 | I32])
_ENDS = bytes([1 << 4 | STRUCT]) + encoded(_ONE_VALUE) + b"\0"


class Page(Protocol):
    """Where a photo's page lies: it is `page_bytes` long, of which the last `size_bytes` are the photo."""

    @property
    def id(self) -> str: ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def page_bytes(self) -> int: ...


def page_head(data: bytes | bytearray) -> bytes:
    """What stands before a photo's bytes in its page."""
    length = len(data).to_bytes(4, "little")
    checksum = crc32(data, crc32(length))
    signed = checksum - 2**32 if checksum >= 2**31 else checksum
    size = _NEXT_I32 + zigzag(4 + len(data))
    return b"".join([_DATA_PAGE, size, size, _NEXT_I32, zigzag(signed), _ENDS, length])


def ending(
    groups: Sequence[Sequence[Page]], rows: Sequence[Sequence[Mapping[str, Any]]], sums: Sequence[int], ends: int
) -> bytes:
    """What finishes a file whose pages lie one after the other from byte 4 on.

    Args:
        groups: the photos of each row group, in the order of their pages.
        rows: the papers of the same photos.
        sums: the CRC-32 of each photo.
        ends: where the last page ends.
    """
    papers = memoryview(_papers_only(rows, sums))
    about = decoded(papers[-8 - int.from_bytes(papers[-8:-4], "little") : -8])
    out: list[memoryview | bytes] = []
    page_at, at = len(MAGIC), ends
    for group, pages in zip(about[_ROW_GROUPS][1][1], groups, strict=True):
        places: list[int] = []
        grown = 0
        for chunk in group[_COLUMNS][1][1]:
            meta: Struct = chunk[_META][1]
            if meta[_PATH][1][1] == [b"image"]:
                grown = _set_pictures(meta, pages, page_at)
                places.append(page_at)
                continue
            begins = meta.get(_DICTIONARY_AT, meta[_DATA_AT])[1]
            length = meta[_COMPRESSED][1]
            for field in (_DATA_AT, _DICTIONARY_AT):
                if field in meta:
                    meta[field] = I64, meta[field][1] - begins + at
            if chunk.get(_CHUNK_OFFSET, (I64, 0))[1]:
                chunk[_CHUNK_OFFSET] = I64, chunk[_CHUNK_OFFSET][1] - begins + at
            out.append(papers[begins : begins + length])
            places.append(at)
            at += length
        for field in (_TOTAL_BYTES, _GROUP_COMPRESSED):
            if field in group:
                group[field] = I64, group[field][1] + grown
        if _GROUP_OFFSET in group:
            group[_GROUP_OFFSET] = I64, min(places)
        page_at += sum(page.page_bytes for page in pages)
    footer = encoded(about)
    return b"".join([*out, footer, len(footer).to_bytes(4, "little"), MAGIC])


def _set_pictures(meta: Struct, pages: Sequence[Page], at: int) -> int:
    """Set a row group's column of pictures to these pages, the first of which begins at `at`; how many bytes it has
    more than the empty one."""
    size = sum(page.page_bytes for page in pages)
    grown: int = size - meta[_COMPRESSED][1]
    meta[_UNCOMPRESSED] = meta[_COMPRESSED] = I64, size
    meta[_DATA_AT] = I64, at
    for stats in meta.get(_ENCODING_STATS, (LIST, (STRUCT, [])))[1][1]:
        stats[_COUNT] = I32, len(pages)
    if _SIZES in meta and _BYTE_ARRAY_BYTES in meta[_SIZES][1]:
        meta[_SIZES][1][_BYTE_ARRAY_BYTES] = I64, sum(page.size_bytes for page in pages)
    return grown


def _papers_only(rows: Sequence[Sequence[Mapping[str, Any]]], sums: Sequence[int]) -> pa.Buffer:
    """A shard's file with these papers and empty pictures."""
    sink = pa.BufferOutputStream()
    columns = [name for name in PHOTO_SCHEMA.names if name != "image"]
    with writer(sink) as shard:
        done = 0
        for group in rows:
            arrays = [array([row[name] for row in group], PHOTO_SCHEMA.field(name).type) for name in columns]
            empty = pa.py_buffer(bytes(4 * (len(group) + 1)))
            arrays.append(pa.Array.from_buffers(pa.binary(), len(group), [None, empty, pa.py_buffer(b"")]))
            shard.add(pa.Table.from_arrays(arrays, schema=PHOTO_SCHEMA), sums[done : done + len(group)])
            done += len(group)
    return sink.getvalue()


def check(path: Path, groups: Sequence[Sequence[Page]]) -> None:
    """Read a finished file with Arrow: are its photos these, and their pages where they are?

    Only the ids are read, so it costs little; of the pictures, Arrow is asked where it would look for them.

    Raises:
        ValueError, pa.ArrowException: it would not be read as it was meant.
    """
    page_at = len(MAGIC)
    with pq.ParquetFile(path, memory_map=True, pre_buffer=False, page_checksum_verification=True) as file:
        column = file.schema_arrow.get_field_index("image")
        if file.num_row_groups != len(groups):
            raise ValueError(f"{file.num_row_groups} row groups for {len(groups)}")
        for number, pages in enumerate(groups):
            ids = file.read_row_group(number, columns=["id"]).column("id").to_pylist()
            chunk = file.metadata.row_group(number).column(column)
            size = sum(page.page_bytes for page in pages)
            if ids != [page.id for page in pages] or chunk.path_in_schema != "image":
                raise ValueError(f"row group {number} holds other photos")
            if (chunk.data_page_offset, chunk.total_compressed_size) != (page_at, size):
                raise ValueError(f"the pictures of row group {number} are at {chunk.data_page_offset}, not {page_at}")
            page_at += size
