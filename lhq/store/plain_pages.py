"""Read a local shard's photos directly from its Parquet pages, with one copy each from the page cache.

Arrow makes three copies: of the page, into the column's buffer, out of it. In a plain column (required, uncompressed,
no dictionary), a page is a header followed by each value's length in four bytes and the value. Shards of photos are
written so; anything else is left to Arrow.
Source: Apache Parquet format 2.10, `parquet.thrift` (PageHeader) and Encodings.md (Plain).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pyarrow.parquet as pq

from lhq.store.thrift import decoded_and_end
from lhq.system import read_at

_MAX_HEADER_BYTES = 128  # a header without statistics takes about thirty
_DATA_PAGE, _PLAIN = 0, 0
_PAGE_TYPE, _UNCOMPRESSED_SIZE, _COMPRESSED_SIZE, _DATA_HEADER = 1, 2, 3, 5  # PageHeader
_NUM_VALUES, _ENCODING = 1, 2  # DataPageHeader


def plain_values(path: str, metadata: pq.FileMetaData, column: str) -> Iterator[bytes]:
    """Yield the values of a column of bytes in order.

    Stops before the first value that is not plain or not complete in the file; Arrow reads the rest, or reports what is
    wrong.

    Raises:
        OSError: the file can't be read.
    """
    number = metadata.schema.names.index(column)
    column_type = metadata.schema.column(number)
    if (
        column_type.max_definition_level
        or column_type.max_repetition_level
        or column_type.physical_type != "BYTE_ARRAY"
    ):
        return
    with open(path, "rb", buffering=0) as file:
        fd = file.fileno()
        size = os.fstat(fd).st_size
        for group in range(metadata.num_row_groups):
            chunk = metadata.row_group(group).column(number)
            if chunk.has_dictionary_page or chunk.compression != "UNCOMPRESSED":
                return
            offset, num_left = chunk.data_page_offset, chunk.num_values
            end = min(size, offset + chunk.total_compressed_size)
            while num_left:
                values_start, values_end, num = _read_page_header(fd, offset, end)
                if not 0 < num <= num_left:
                    return
                for value in _values(fd, values_start, values_end, num):
                    if value is None:
                        return
                    yield value
                num_left, offset = num_left - num, values_end


def _read_page_header(fd: int, offset: int, end: int) -> tuple[int, int, int]:
    """(start and end offset of a page's values, their number); the number is 0 if it isn't a plain page."""
    if not 0 < offset < end:
        return offset, offset, 0
    try:
        header, header_bytes = decoded_and_end(read_at(fd, min(_MAX_HEADER_BYTES, end - offset), offset))
        data, size = header[_DATA_HEADER][1], header[_COMPRESSED_SIZE][1]
        is_plain = (
            header[_PAGE_TYPE][1] == _DATA_PAGE
            and data[_ENCODING][1] == _PLAIN
            and size == header[_UNCOMPRESSED_SIZE][1]
        )
        values_start, num = offset + header_bytes, int(data[_NUM_VALUES][1])
        return (
            (values_start, values_start + size, num) if is_plain and values_start + size <= end else (offset, offset, 0)
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return offset, offset, 0


def _values(fd: int, offset: int, end: int, num: int) -> Iterator[bytes | None]:
    """Yield the values of a page; None for one that exceeds the page."""
    for _ in range(num):
        length = int.from_bytes(read_at(fd, 4, offset), "little") if offset + 4 <= end else -1
        offset += 4
        value = read_at(fd, length, offset) if 0 <= length <= end - offset else b""
        yield value if len(value) == length else None
        offset += length
