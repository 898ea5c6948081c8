"""Decode a PNG strip by strip: a poster of 200 megapixels in a few megabytes of memory.

Pillow decodes only whole images. A PNG's filters refer to the previous row alone, so a strip that starts with the last
row of the strip before it is an image in itself, which Pillow can unfilter. 16 bits a channel are decoded in full;
Pillow does so for greys only. Source: W3C PNG, third edition, 9 and 10.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

import numpy as np
from PIL import Image

from lhq.images.colour import ColourSpace, to_8_bit
from lhq.images.containers import png_chunks

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Bytes per pixel, the unit of filters → Pillow's mode with as many channels, and the raw modes that read all bytes.
_FILTER_MODES = {
    1: ("L", ("L",)),
    2: ("LA", ("LA",)),
    3: ("RGB", ("RGB",)),
    4: ("RGBA", ("RGBA",)),
    6: ("RGB", ("RGB;16B", "RGB;16L")),
    8: ("RGBA", ("RGBA;16B", "RGBA;16L")),
}
# Of each pass of Adam7: first row and column, steps down and across.
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
_INPUT_BYTES = 256 * 2**10


def png_strips(
    data: memoryview, chunks: Mapping[bytes, bytes], space: ColourSpace, num_rows: int
) -> Iterator[Image.Image]:
    """Yield the image in strips of `num_rows` rows (the last may have fewer).

    Colours are as stored, except that 16 bits a channel are rounded to 8 and their transparent colour is made alpha.

    Args:
        chunks: from `containers.png_colour_chunks`.

    Raises:
        ValueError, zlib.error: the data is corrupt or ends too early.
    """
    head = chunks[b"IHDR"]
    width, height = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
    bits, colour = head[8], head[9]
    row_bytes = (width * bits * _CHANNELS[colour] + 7) // 8
    bytes_per_pixel = max(1, bits * _CHANNELS[colour] // 8)
    for _, stored in _unfiltered(_Inflater(data), row_bytes, height, bytes_per_pixel, num_rows):
        yield _strip_image(stored, width, bits, colour, chunks, space)


def interlaced_strips(
    data: memoryview, chunks: Mapping[bytes, bytes], space: ColourSpace, num_rows: int
) -> Iterator[Image.Image]:
    """Like `png_strips`, for an interlaced PNG of 16 bits a channel, whose seven passes are first assembled in memory.

    Source: W3C PNG, third edition, 8.
    """
    head = chunks[b"IHDR"]
    width, height = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
    bits, colour = head[8], head[9]
    bytes_per_pixel = bits * _CHANNELS[colour] // 8
    stored = np.empty((height, width, bytes_per_pixel), np.uint8)
    inflater = _Inflater(data)
    for top, left, down, across in _PASSES:
        rows, columns = -(-(height - top) // down), -(-(width - left) // across)
        if rows <= 0 or columns <= 0:
            continue
        of_pass = stored[top::down, left::across]
        for first, part in _unfiltered(inflater, columns * bytes_per_pixel, rows, bytes_per_pixel, num_rows):
            of_pass[first : first + len(part)] = part.reshape(-1, columns, bytes_per_pixel)
    for top in range(0, height, num_rows):
        strip = stored[top : top + num_rows]
        yield _strip_image(strip.reshape(len(strip), -1), width, bits, colour, chunks, space)


class _Inflater:
    """Reads the decompressed data of all IDAT chunks as one stream."""

    def __init__(self, data: memoryview) -> None:
        self._bodies = (body for kind, body in png_chunks(data, is_checked=False) if kind == b"IDAT")
        self._decompressor = zlib.decompressobj()
        self._rest = memoryview(b"")

    def read(self, num: int) -> bytes:
        out = bytearray()
        while len(out) < num:
            packed = self._decompressor.unconsumed_tail
            if not packed:
                if not self._rest:
                    self._rest = next(self._bodies, memoryview(b""))
                    if not self._rest and self._decompressor.eof:
                        raise ValueError("its data ends before its last row")
                packed, self._rest = bytes(self._rest[:_INPUT_BYTES]), self._rest[_INPUT_BYTES:]
            before = len(out)
            out += self._decompressor.decompress(packed, num - len(out))
            if len(out) == before and (self._decompressor.eof or not (packed or self._rest)):
                raise ValueError("its data ends before its last row")
        return bytes(out)


def _unfiltered(
    inflater: _Inflater, row_bytes: int, height: int, bytes_per_pixel: int, num_rows: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, uint8 [`num_rows`, row_bytes]) of an image or a pass, its row filters undone."""
    previous_row = np.zeros(row_bytes, np.uint8)
    for top in range(0, height, num_rows):
        rows = min(num_rows, height - top)
        packed = zlib.compress(b"\0" + previous_row.tobytes() + inflater.read(rows * (row_bytes + 1)), 0)
        stored = _unfilter(packed, row_bytes, rows + 1, bytes_per_pixel)
        previous_row = stored[-1]
        yield top, stored[1:]


def _unfilter(packed: bytes, row_bytes: int, rows: int, bytes_per_pixel: int) -> np.ndarray:
    """Undo the row filters: uint8 [rows, row_bytes]."""
    mode, orders = _FILTER_MODES[bytes_per_pixel]
    size = (row_bytes // bytes_per_pixel, rows)
    planes = [np.asarray(Image.frombytes(mode, size, packed, "zip", order)).reshape(rows, -1) for order in orders]
    if len(planes) == 1:
        return planes[0]
    return np.stack(planes, axis=2).reshape(rows, row_bytes)


def _strip_image(
    stored: np.ndarray, width: int, bits: int, colour: int, chunks: Mapping[bytes, bytes], space: ColourSpace
) -> Image.Image:
    rows = len(stored)
    if bits < 8:
        of_bits = np.unpackbits(np.ascontiguousarray(stored), axis=1)[:, : width * bits].reshape(rows, width, bits)
        stored = (of_bits << np.arange(bits - 1, -1, -1, dtype=np.uint8)).sum(axis=2, dtype=np.uint8)
        if colour == 0:
            stored = stored * np.uint8(255 // (2**bits - 1))
    if colour == 3:
        picture = Image.fromarray(np.ascontiguousarray(stored))
        picture.putpalette(chunks.get(b"PLTE", b""))
        if b"tRNS" in chunks:
            picture.info["transparency"] = chunks[b"tRNS"]
        return picture
    if bits == 16:
        return _strip_from_16_bit(stored.reshape(rows, width, _CHANNELS[colour], 2), space)
    shape = (rows, width) if colour == 0 else (rows, width, _CHANNELS[colour])
    return Image.fromarray(np.ascontiguousarray(stored).reshape(shape))


def _strip_from_16_bit(pairs: np.ndarray, space: ColourSpace) -> Image.Image:
    """`pairs` is uint8 [rows, width, channels, 2]: high and low byte."""
    values = np.ascontiguousarray(pairs).view(">u2")[..., 0].astype(np.uint16)
    if values.shape[2] == 1:
        return Image.fromarray(values[..., 0])
    if space.transparent_colour:
        opaque = np.where((values == np.array(space.transparent_colour)).all(axis=2, keepdims=True), 0, 65_535)
        values = np.concatenate([values, opaque.astype(np.uint16)], axis=2)
    return Image.fromarray(to_8_bit(values))
