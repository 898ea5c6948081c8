"""Raw rows → PNG, row by row: memory use does not grow with the width.

For each row, the filter among Sub, Up and Paeth is used that gives the smallest differences in its first 65,536 pixels.
Source: W3C PNG, third edition, sections 5 to 9 and 12.7.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from alis.formats.raw_picture import RawPicture, atomic_path
from alis.progress import progress_bar

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEY = b"alis\0\0\0\0\0"
_CHUNK_PX = 1 << 16
_SUB, _UP, _PAETH = 1, 2, 4
Values = NDArray[Any]


def encode(rows: RawPicture, path: Path, note: str) -> None:
    """Write the picture, with its note in an iTXt chunk before the pixels."""
    with atomic_path(path) as part, open(part, "wb") as file:
        file.write(_SIGNATURE)
        _chunk(file, b"IHDR", struct.pack(">IIBBBBB", rows.width, rows.height, 8, 2, 0, 0, 0))
        _chunk(file, b"sRGB", b"\0")
        _chunk(file, b"iTXt", _KEY + note.encode())
        packer, pending = zlib.compressobj(6, zlib.DEFLATED, 15, 9, zlib.Z_FILTERED), bytearray()
        with progress_bar(f"encode {path.name}", rows.height) as advance:
            for top in range(rows.height):
                for piece in _filtered(rows, top):
                    pending += packer.compress(piece)
                    if len(pending) >= 1 << 20:
                        _chunk(file, b"IDAT", bytes(pending))
                        pending.clear()
                advance(1)
        _chunk(file, b"IDAT", bytes(pending) + packer.flush())
        _chunk(file, b"IEND", b"")


def read_note(path: Path) -> str | None:
    """Read the note; quick for any size, since it is before the pixels."""
    with open(path, "rb") as file:
        if file.read(8) != _SIGNATURE:
            raise ValueError("no PNG signature")
        while True:
            size, kind = struct.unpack(">I4s", file.read(8))
            if kind in {b"IDAT", b"IEND"} or size > 1 << 24:
                return None
            body = file.read(size)
            file.read(4)
            if kind == b"iTXt" and body.startswith(_KEY):
                return body[len(_KEY) :].decode()


def _chunk(file: BinaryIO, kind: bytes, body: bytes) -> None:
    file.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))


def _filtered(rows: RawPicture, top: int) -> Iterator[bytes]:
    """One filtered row, in pieces, by the filter with the smallest differences in the first piece."""
    chosen = -1
    for left in range(0, rows.width, _CHUNK_PX):
        right, start = min(left + _CHUNK_PX, rows.width), max(left - 1, 0)
        two = rows.read(max(top - 1, 0), top + 1, start, right).astype(np.int16)
        if top == 0:
            two = np.concatenate([np.zeros_like(two), two])
        if left == 0:
            two = np.concatenate([np.zeros((2, 1, 3), np.int16), two], axis=1)
        x, west, north, corner = two[1, 1:], two[1, :-1], two[0, 1:], two[0, :-1]
        if chosen < 0:
            sums = {kind: np.abs(_predicted(kind, x, west, north, corner)).sum() for kind in (_SUB, _UP, _PAETH)}
            chosen = min(sums, key=lambda kind: sums[kind])
            yield bytes([chosen])
        yield _predicted(chosen, x, west, north, corner).tobytes()


def _predicted(kind: int, x: Values, west: Values, north: Values, corner: Values) -> Values:
    """x minus its prediction by a PNG filter, wrapped to signed bytes."""
    if kind == _SUB:
        guess = west
    elif kind == _UP:
        guess = north
    else:
        to_west, to_north = np.abs(north - corner), np.abs(west - corner)
        to_corner = np.abs(west + north - 2 * corner)
        guess = np.where(
            (to_west <= to_north) & (to_west <= to_corner), west, np.where(to_north <= to_corner, north, corner)
        )
    wrapped: Values = (x - guess).astype(np.int8)
    return wrapped
