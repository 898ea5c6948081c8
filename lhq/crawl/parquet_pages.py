"""Write a shard's Parquet file incrementally: one page per photo at once, the papers and the footer at the end.

The photos are one plain column with one page each, so a page can be written as soon as its photo is fetched. Arrow only
writes whole row groups; so at the end it writes a file of the papers with empty images, in memory. The papers' columns
are copied from that file, and its footer is used with the offsets and sizes of the images' pages filled in.
Source: https://parquet.apache.org/docs/file-format/ and `parquet.thrift`, whose field numbers stand below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from isal.isal_zlib import crc32

from lhq.crawl.arrow_arrays import array
from lhq.crawl.shard_file import writer
from lhq.records import PHOTO_SCHEMA
from lhq.store.thrift import I32, I64, LIST, STRUCT, Struct, decoded, encoded, zigzag

MAGIC = b"PAR1"

# FileMetaData, RowGroup, ColumnChunk, ColumnMetaData, PageEncodingStats, SizeStatistics.
_ROW_GROUPS = 4
_COLUMNS, _TOTAL_BYTES, _GROUP_OFFSET, _GROUP_COMPRESSED = 1, 2, 5, 6
_CHUNK_OFFSET, _COLUMN_META = 2, 3
_PATH, _UNCOMPRESSED, _COMPRESSED, _DATA_OFFSET, _DICTIONARY_OFFSET, _ENCODING_STATS, _SIZES = 3, 6, 7, 9, 11, 13, 16
_COUNT, _BYTE_ARRAY_BYTES = 3, 1

# The parts of a PageHeader: its type (data page), then two sizes (uncompressed and compressed, here the same), the
# checksum, and a DataPageHeader: one value, plain encoding, run-length-encoded levels (there are none).
_ONE_VALUE: Struct = {1: (I32, 1), 2: (I32, 0), 3: (I32, 3), 4: (I32, 3)}
_DATA_PAGE_TYPE = encoded({1: (I32, 0)})[:-1]
_NEXT_I32_FIELD = bytes([1 << 4 | I32])
_PAGE_HEADER_END = bytes([1 << 4 | STRUCT]) + encoded(_ONE_VALUE) + b"\0"


class Page(Protocol):
    """A photo's page: `page_bytes` long, of which the last `size_bytes` are the photo."""

    @property
    def id(self) -> str: ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def page_bytes(self) -> int: ...


def page_header(data: bytes | bytearray) -> bytes:
    """The bytes of a page before the photo itself: page header and the value's length."""
    length = len(data).to_bytes(4, "little")
    checksum = crc32(data, crc32(length))
    signed = checksum - 2**32 if checksum >= 2**31 else checksum
    size = _NEXT_I32_FIELD + zigzag(4 + len(data))
    return b"".join([_DATA_PAGE_TYPE, size, size, _NEXT_I32_FIELD, zigzag(signed), _PAGE_HEADER_END, length])


def papers_and_footer(
    groups: Sequence[Sequence[Page]], rows: Sequence[Sequence[Mapping[str, Any]]], crc32s: Sequence[int], pages_end: int
) -> bytes:
    """The rest of a file whose pages follow each other from byte 4 on: the papers' columns and the footer.

    Args:
        groups: the photos of each row group, in the order of their pages.
        rows: the papers of the same photos.
        crc32s: the CRC-32 of each photo.
        pages_end: offset of the end of the last page.
    """
    papers = memoryview(_write_papers(rows, crc32s))
    file_metadata = decoded(papers[-8 - int.from_bytes(papers[-8:-4], "little") : -8])
    out: list[memoryview | bytes] = []
    page_offset, offset = len(MAGIC), pages_end
    for group, pages in zip(file_metadata[_ROW_GROUPS][1][1], groups, strict=True):
        offsets: list[int] = []
        num_added_bytes = 0
        for chunk in group[_COLUMNS][1][1]:
            column_metadata: Struct = chunk[_COLUMN_META][1]
            if column_metadata[_PATH][1][1] == [b"image"]:
                num_added_bytes = _set_image_column(column_metadata, pages, page_offset)
                offsets.append(page_offset)
                continue
            start = column_metadata.get(_DICTIONARY_OFFSET, column_metadata[_DATA_OFFSET])[1]
            length = column_metadata[_COMPRESSED][1]
            for field in (_DATA_OFFSET, _DICTIONARY_OFFSET):
                if field in column_metadata:
                    column_metadata[field] = I64, column_metadata[field][1] - start + offset
            if chunk.get(_CHUNK_OFFSET, (I64, 0))[1]:
                chunk[_CHUNK_OFFSET] = I64, chunk[_CHUNK_OFFSET][1] - start + offset
            out.append(papers[start : start + length])
            offsets.append(offset)
            offset += length
        for field in (_TOTAL_BYTES, _GROUP_COMPRESSED):
            if field in group:
                group[field] = I64, group[field][1] + num_added_bytes
        if _GROUP_OFFSET in group:
            group[_GROUP_OFFSET] = I64, min(offsets)
        page_offset += sum(page.page_bytes for page in pages)
    footer = encoded(file_metadata)
    return b"".join([*out, footer, len(footer).to_bytes(4, "little"), MAGIC])


def _set_image_column(column_metadata: Struct, pages: Sequence[Page], offset: int) -> int:
    """Set a row group's image column to these pages, which start at `offset`; return by how many bytes it grows."""
    size = sum(page.page_bytes for page in pages)
    num_added_bytes: int = size - column_metadata[_COMPRESSED][1]
    column_metadata[_UNCOMPRESSED] = column_metadata[_COMPRESSED] = I64, size
    column_metadata[_DATA_OFFSET] = I64, offset
    for stats in column_metadata.get(_ENCODING_STATS, (LIST, (STRUCT, [])))[1][1]:
        stats[_COUNT] = I32, len(pages)
    if _SIZES in column_metadata and _BYTE_ARRAY_BYTES in column_metadata[_SIZES][1]:
        column_metadata[_SIZES][1][_BYTE_ARRAY_BYTES] = I64, sum(page.size_bytes for page in pages)
    return num_added_bytes


def _write_papers(rows: Sequence[Sequence[Mapping[str, Any]]], crc32s: Sequence[int]) -> pa.Buffer:
    """Write a shard's file with these papers and empty images."""
    sink = pa.BufferOutputStream()
    columns = [name for name in PHOTO_SCHEMA.names if name != "image"]
    with writer(sink) as shard:
        num_rows = 0
        for group in rows:
            arrays = [array([row[name] for row in group], PHOTO_SCHEMA.field(name).type) for name in columns]
            empty = pa.py_buffer(bytes(4 * (len(group) + 1)))
            arrays.append(pa.Array.from_buffers(pa.binary(), len(group), [None, empty, pa.py_buffer(b"")]))
            shard.add(pa.Table.from_arrays(arrays, schema=PHOTO_SCHEMA), crc32s[num_rows : num_rows + len(group)])
            num_rows += len(group)
    return sink.getvalue()


def check_with_arrow(path: Path, groups: Sequence[Sequence[Page]]) -> None:
    """Check that Arrow reads a finished file as intended: its ids, and the offsets of the image pages.

    Cheap, since no image is read.

    Raises:
        ValueError, pa.ArrowException: Arrow reads something else.
    """
    page_offset = len(MAGIC)
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
            if (chunk.data_page_offset, chunk.total_compressed_size) != (page_offset, size):
                raise ValueError(
                    f"the pictures of row group {number} are at {chunk.data_page_offset}, not {page_offset}"
                )
            page_offset += size
