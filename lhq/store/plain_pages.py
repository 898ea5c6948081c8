"""A local shard's photos read straight from its pages, each in one copy.

Arrow makes three: a page, a column's buffer, a `bytes`. Of a column that is stored plain (not null, not packed, no
dictionary) a page is a header and then, for each value, four bytes of length and the value; so shards of photos are
written. Whatever is otherwise is left to Arrow.
Source: Apache Parquet format 2.10, `parquet.thrift` (PageHeader) and Encodings.md (Plain); Thrift's compact protocol.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pyarrow.parquet as pq

from lhq import system

_HEAD_BYTES = 256  # a header without statistics takes about thirty
_DATA_PAGE, _PLAIN = 0, 0
_STOP, _TRUE, _FALSE, _BYTE, _BINARY, _STRUCT = 0, 1, 2, 3, 8, 12
_INTEGERS = (4, 5, 6)

Fields = dict[int, "int | Fields"]


def plain_values(path: str, about: pq.FileMetaData, column: str) -> Iterator[bytes]:
    """The values of a column of bytes, in order, as far as they lie plain; the first that does not, or that the file
    does not hold whole, ends them, and must be read by Arrow or named by it.

    Raises:
        OSError: the file can't be read.
    """
    with open(path, "rb", buffering=0) as file:
        fd = file.fileno()
        size = os.fstat(fd).st_size
        number = about.schema.names.index(column)
        kind = about.schema.column(number)
        if kind.max_definition_level or kind.max_repetition_level or kind.physical_type != "BYTE_ARRAY":
            return
        for group in range(about.num_row_groups):
            chunk = about.row_group(group).column(number)
            if chunk.has_dictionary_page or chunk.compression != "UNCOMPRESSED":
                return
            at = chunk.data_page_offset
            end = min(size, at + chunk.total_compressed_size)
            left = chunk.num_values
            while left:
                page = _page(system.read_at(fd, min(_HEAD_BYTES, end - at), at))
                if page is None:
                    return
                head_bytes, page_bytes, num = page
                at += head_bytes
                last = at + page_bytes
                if not 0 < num <= left or last > end:
                    return
                for _ in range(num):
                    length = int.from_bytes(system.read_at(fd, 4, at), "little") if at + 4 <= last else -1
                    at += 4
                    if not 0 <= length <= last - at:
                        return
                    value = system.read_at(fd, length, at)
                    if len(value) < length:
                        return
                    yield value
                    at += length
                left -= num
                at = last


def _page(head: bytes) -> tuple[int, int, int] | None:
    """(bytes of the header, of the page, number of values); None where it is not a plain page of data."""
    try:
        fields, num_bytes = _fields(head, 0)
    except (IndexError, ValueError):
        return None
    data = fields.get(5)
    if not isinstance(data, dict) or fields.get(1) != _DATA_PAGE or data.get(2) != _PLAIN:
        return None
    page_bytes, num = fields.get(3), data.get(1)
    if not isinstance(page_bytes, int) or not isinstance(num, int) or page_bytes != fields.get(2):
        return None
    return num_bytes, page_bytes, num


def _fields(head: bytes, at: int) -> tuple[Fields, int]:
    """One struct of the compact protocol: its integers and structs by number, and where it ends."""
    found: Fields = {}
    name = 0
    while True:
        step, kind = head[at] >> 4, head[at] & 15
        at += 1
        if kind == _STOP:
            return found, at
        if step:
            name += step
        else:
            value, at = _varint(head, at)
            name = value >> 1 ^ -(value & 1)
        if kind in _INTEGERS:
            value, at = _varint(head, at)
            found[name] = value >> 1 ^ -(value & 1)
        elif kind == _STRUCT:
            found[name], at = _fields(head, at)
        elif kind == _BINARY:
            value, at = _varint(head, at)
            at += value
        elif kind == _BYTE:
            at += 1
        elif kind not in (_TRUE, _FALSE):
            raise ValueError("a list, map or set")


def _varint(head: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = head[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
