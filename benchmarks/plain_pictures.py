"""Pictures of one tone, of kinds that Pillow reads but does not write, of any size and in no time."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def lossless_jpeg(megapixels: float, *segments: bytes) -> Callable[[], bytes]:
    """SOF3, three components: every difference is 0, and its code is one bit."""

    def make() -> bytes:
        side = _side(megapixels)
        tables = _segment(0xC4, b"\0" + bytes([1] + [0] * 15) + b"\0")
        scan = _scan((1, 0, 0)) + bytes((side * side * 3 + 7) // 8 + 16)
        return b"\xff\xd8" + b"".join(segments) + _frame(0xC3, side) + tables + scan + b"\xff\xd9"

    return make


def arithmetic_jpeg(megapixels: float, *, is_progressive: bool = False) -> Callable[[], bytes]:
    """SOF9 or SOF10, three components: a scan without data, which decoders go on with as zeros."""

    def make() -> bytes:
        frame = _frame(0xCA if is_progressive else 0xC9, _side(megapixels))
        scan = _scan((0, 0, 0) if is_progressive else (0, 63, 0))
        return b"\xff\xd8" + _segment(0xDB, bytes([0] + [1] * 64)) + frame + scan + b"\xff\xd9"

    return make


def png(megapixels: float, bits: int, colour: int, *, is_interlaced: bool = False) -> Callable[[], bytes]:
    """Any depth and colour type but the palette's; the latter's words are those of the PNG standard."""

    def make() -> bytes:
        side = _side(megapixels)
        passes = _ADAM7 if is_interlaced else ((0, 0, 1, 1),)
        head = struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, int(is_interlaced))
        data = _packed(
            (b"\0" + b"\x7f" * ((-(-(side - x) // across) * _CHANNELS[colour] * bits + 7) // 8), -(-(side - y) // down))
            for x, y, across, down in passes
        )
        return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")

    return make


def _side(megapixels: float) -> int:
    return int((megapixels * 1e6) ** 0.5)


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def _frame(marker: int, side: int) -> bytes:
    return _segment(marker, struct.pack(">BHHB", 8, side, side, 3) + b"".join(bytes([n, 0x11, 0]) for n in (1, 2, 3)))


def _scan(last: tuple[int, int, int]) -> bytes:
    return _segment(0xDA, b"\3" + b"".join(bytes([n, 0]) for n in (1, 2, 3)) + bytes(last))


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _packed(rows: Iterable[tuple[bytes, int]]) -> bytes:
    """Deflated: each row as often as its number says."""
    packer = zlib.compressobj(1)
    parts = [packer.compress(row) for row, times in rows for _ in range(times)]
    return b"".join([*parts, packer.flush()])
