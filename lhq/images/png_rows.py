"""A PNG's rows → strips of the picture, one after another: a poster of 200 megapixels in a few megabytes.

Pillow's decoder wants the whole picture. Rows are packed by zlib and told apart by filters that look at the row above
alone, so a strip is a picture of its own once the last row of the strip before is put on top of it: such strips are
handed to Pillow's own unfiltering. Sixteen bits a channel are read in full, which Pillow does for greys only.
Source: W3C PNG, third edition, 9 and 10.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

import numpy as np
from PIL import Image

from lhq.images.colour import Space, eight_bits
from lhq.images.containers import png_chunks

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Bytes a pixel, of which filters speak → Pillow's mode of as many channels and its words for the bytes' order.
_LANES = {
    1: ("L", ("L",)),
    2: ("LA", ("LA",)),
    3: ("RGB", ("RGB",)),
    4: ("RGBA", ("RGBA",)),
    6: ("RGB", ("RGB;16B", "RGB;16L")),
    8: ("RGBA", ("RGBA;16B", "RGBA;16L")),
}
_FEED_BYTES = 256 * 2**10


def strips(data: memoryview, chunks: Mapping[bytes, bytes], space: Space, num_rows: int) -> Iterator[Image.Image]:
    """The picture in strips of `num_rows` rows (the last may have fewer), as stored but for 16 bits of colour, which
    come as 8; the colour that means transparent among those is alpha already.

    Args:
        chunks: of `containers.png_colour_chunks`.

    Raises:
        ValueError, zlib.error: the data is broken or ends too early.
    """
    head = chunks[b"IHDR"]
    width, height = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
    bits, colour = head[8], head[9]
    row_bytes = (width * bits * _CHANNELS[colour] + 7) // 8
    lanes = max(1, bits * _CHANNELS[colour] // 8)
    inflater = _Inflater(data)
    above = np.zeros(row_bytes, np.uint8)
    for top in range(0, height, num_rows):
        rows = min(num_rows, height - top)
        packed = zlib.compress(b"\0" + above.tobytes() + inflater.read(rows * (row_bytes + 1)), 0)
        stored = _unfiltered(packed, row_bytes, rows + 1, lanes)
        above = stored[-1]
        yield _picture(stored[1:], width, bits, colour, chunks, space)


class _Inflater:
    """What IDAT chunks hold, by the number of bytes asked for."""

    def __init__(self, data: memoryview) -> None:
        self._bodies = (body for kind, body in png_chunks(data, is_checked=False) if kind == b"IDAT")
        self._engine = zlib.decompressobj()
        self._rest = memoryview(b"")

    def read(self, num: int) -> bytes:
        out = bytearray()
        while len(out) < num:
            packed = self._engine.unconsumed_tail
            if not packed:
                if not self._rest:
                    self._rest = next(self._bodies, memoryview(b""))
                    if not self._rest and self._engine.eof:
                        raise ValueError("its data ends before its last row")
                packed, self._rest = bytes(self._rest[:_FEED_BYTES]), self._rest[_FEED_BYTES:]
            before = len(out)
            out += self._engine.decompress(packed, num - len(out))
            if len(out) == before and (self._engine.eof or not (packed or self._rest)):
                raise ValueError("its data ends before its last row")
        return bytes(out)


def _unfiltered(packed: bytes, row_bytes: int, rows: int, lanes: int) -> np.ndarray:
    """Rows as stored before filtering: uint8 [rows, row_bytes]."""
    mode, orders = _LANES[lanes]
    size = (row_bytes // lanes, rows)
    planes = [np.asarray(Image.frombytes(mode, size, packed, "zip", order)).reshape(rows, -1) for order in orders]
    if len(planes) == 1:
        return planes[0]
    return np.stack(planes, axis=2).reshape(rows, row_bytes)


def _picture(
    stored: np.ndarray, width: int, bits: int, colour: int, chunks: Mapping[bytes, bytes], space: Space
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
        return _sixteen(stored.reshape(rows, width, _CHANNELS[colour], 2), space)
    shape = (rows, width) if colour == 0 else (rows, width, _CHANNELS[colour])
    return Image.fromarray(np.ascontiguousarray(stored).reshape(shape))


def _sixteen(pairs: np.ndarray, space: Space) -> Image.Image:
    """`pairs` is uint8 [rows, width, channels, high and low byte]."""
    values = np.ascontiguousarray(pairs).view(">u2")[..., 0].astype(np.uint16)
    if values.shape[2] == 1:
        return Image.fromarray(values[..., 0])
    if space.transparent:
        opaque = np.where((values == np.array(space.transparent)).all(axis=2, keepdims=True), 0, 65_535)
        values = np.concatenate([values, opaque.astype(np.uint16)], axis=2)
    return Image.fromarray(eight_bits(values))
