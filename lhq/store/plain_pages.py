"""A local shard's photos straight from its pages: one copy each, from the operating system's cache.

Arrow makes three copies: of a page, into a column's buffer, out of it. A column that is stored plain (never null, not
compressed, no dictionary) is a header a page and then, for each value, four bytes of its length and the value. Shards
of photos are written so; whatever is not is left to Arrow.
Source: Apache Parquet format 2.10, `parquet.thrift` (PageHeader) and Encodings.md (Plain).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pyarrow.parquet as pq

from lhq.store.thrift import decoded_and_end
from lhq.system import read_at

_HEAD_BYTES = 128  # a header without statistics takes about thirty
_DATA_PAGE, _PLAIN = 0, 0
_KIND, _UNPACKED_BYTES, _PACKED_BYTES, _DATA_HEADER = 1, 2, 3, 5  # PageHeader
_NUM_VALUES, _ENCODING = 1, 2  # DataPageHeader


def plain_values(path: str, about: pq.FileMetaData, column: str) -> Iterator[bytes]:
    """The values of a column of bytes in order. It ends before the first value that is not stored plain or that the
    file does not hold whole: from there on Arrow reads, or says what is wrong.

    Raises:
        OSError: the file can't be read.
    """
    number = about.schema.names.index(column)
    kind = about.schema.column(number)
    if kind.max_definition_level or kind.max_repetition_level or kind.physical_type != "BYTE_ARRAY":
        return
    with open(path, "rb", buffering=0) as file:
        fd = file.fileno()
        size = os.fstat(fd).st_size
        for group in range(about.num_row_groups):
            chunk = about.row_group(group).column(number)
            if chunk.has_dictionary_page or chunk.compression != "UNCOMPRESSED":
                return
            at, left = chunk.data_page_offset, chunk.num_values
            end = min(size, at + chunk.total_compressed_size)
            while left:
                begins, ends, num = _page(fd, at, end)
                if not 0 < num <= left:
                    return
                for value in _values(fd, begins, ends, num):
                    if value is None:
                        return
                    yield value
                left, at = left - num, ends


def _page(fd: int, at: int, end: int) -> tuple[int, int, int]:
    """(where a page's values begin, where they end, how many there are); none of what is not a plain page."""
    if not 0 < at < end:
        return at, at, 0
    try:
        head, head_bytes = decoded_and_end(read_at(fd, min(_HEAD_BYTES, end - at), at))
        data, size = head[_DATA_HEADER][1], head[_PACKED_BYTES][1]
        is_plain = head[_KIND][1] == _DATA_PAGE and data[_ENCODING][1] == _PLAIN and size == head[_UNPACKED_BYTES][1]
        begins, num = at + head_bytes, int(data[_NUM_VALUES][1])
        return (begins, begins + size, num) if is_plain and begins + size <= end else (at, at, 0)
    except (KeyError, TypeError, ValueError, OverflowError):
        return at, at, 0


def _values(fd: int, at: int, end: int, num: int) -> Iterator[bytes | None]:
    """The values of a page; None instead of one that does not lie in it."""
    for _ in range(num):
        length = int.from_bytes(read_at(fd, 4, at), "little") if at + 4 <= end else -1
        at += 4
        value = read_at(fd, length, at) if 0 <= length <= end - at else b""
        yield value if len(value) == length else None
        at += length
