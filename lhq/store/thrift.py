"""Encode and decode Thrift's compact protocol, the encoding of Parquet's page headers and footer.

A struct is a dict of field number → (type, value); a list is (type of its elements, elements). Fields have no schema
here, so unknown fields of later versions are preserved.
Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

import struct
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)

Struct = dict[int, tuple[int, Any]]


def encoded(fields: Struct) -> bytes:
    """Encode a struct."""
    out = bytearray()
    _write(out, STRUCT, fields)
    return bytes(out)


def decoded(data: bytes | memoryview) -> Struct:
    """Decode the struct at the start of `data`.

    Raises:
        ValueError: it isn't a struct.
    """
    return decoded_and_end(data)[0]


def decoded_and_end(data: bytes | memoryview) -> tuple[Struct, int]:
    """(the struct at the start of `data`, the number of bytes it takes).

    Raises:
        ValueError: it isn't a struct.
    """
    reader = _Reader(bytes(data))
    try:
        found: Struct = reader.value(STRUCT)
    except (IndexError, struct.error) as error:
        raise ValueError(f"not a struct of Thrift's compact protocol ({error})") from None
    return found, reader.at


def varint(number: int) -> bytes:
    """Encode an unsigned number in groups of seven bits, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number: int) -> bytes:
    """Encode a signed number of at most 64 bits."""
    return varint((number << 1) ^ (number >> 63))


def _write(out: bytearray, kind: int, value: Any) -> None:
    if kind in {I16, I32, I64}:
        out += zigzag(value)
    elif kind == BINARY:
        out += varint(len(value))
        out += value
    elif kind == STRUCT:
        last = 0
        for number in sorted(value):
            inner, content = value[number]
            step = number - last
            out += bytes([step << 4 | inner]) if 0 < step < 16 else bytes([inner]) + zigzag(number)
            last = number
            if inner not in {TRUE, FALSE}:
                _write(out, inner, content)
        out.append(0)
    elif kind in {LIST, SET}:
        inner, elements = value
        out += bytes([len(elements) << 4 | inner]) if len(elements) < 15 else bytes([0xF0 | inner])
        if len(elements) >= 15:
            out += varint(len(elements))
        for element in elements:
            _write(out, inner, element)
    elif kind == MAP:
        kinds, pairs = value
        out += varint(len(pairs))
        if pairs:
            out.append(kinds[0] << 4 | kinds[1])
        for pair in pairs:
            for inner, content in zip(kinds, pair, strict=True):
                _write(out, inner, content)
    elif kind == DOUBLE:
        out += struct.pack("<d", value)
    else:  # a byte, or a Boolean in a list
        out.append(value & 0xFF)


class _Reader:
    """Decodes values from a buffer, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def value(self, kind: int) -> Any:
        if kind in {I16, I32, I64}:
            number = self._varint()
            return (number >> 1) ^ -(number & 1)
        if kind == BINARY:
            return self._bytes(self._varint())
        if kind == STRUCT:
            return self._struct()
        if kind in {LIST, SET}:
            head = self._byte()
            num = head >> 4 if head >> 4 < 15 else self._varint()
            return head & 0x0F, [self.value(head & 0x0F) for _ in range(num)]
        if kind == MAP:
            num = self._varint()
            both = self._byte() if num else 0
            kinds = both >> 4, both & 0x0F
            return kinds, [(self.value(kinds[0]), self.value(kinds[1])) for _ in range(num)]
        if kind == DOUBLE:
            return struct.unpack("<d", self._bytes(8))[0]
        if kind in {TRUE, FALSE, BYTE}:
            return self._byte()
        raise ValueError(f"no type {kind} in Thrift's compact protocol")

    def _struct(self) -> Struct:
        found: Struct = {}
        last = 0
        while head := self._byte():
            kind, step = head & 0x0F, head >> 4
            last = last + step if step else self.value(I16)
            found[last] = kind, None if kind in {TRUE, FALSE} else self.value(kind)
        return found

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _bytes(self, num: int) -> bytes:
        found = self._data[self.at : self.at + num]
        if len(found) < num:
            raise IndexError("the bytes end too early")
        self.at += num
        return found

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._byte()
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7
