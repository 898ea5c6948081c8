"""The functions that are fuzzed: bytes in, nothing or an error of ours out. Anything else is a finding."""

from __future__ import annotations

import io
import json
import os
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

SHARED = Path(os.environ.get("LHQ_SHARED") or Path(__file__).parents[2] / "shared")
_SMALL_PX = 1_000_000


def door(data: bytes) -> None:
    """Header, structure and end marker."""
    from lhq.errors import ImageError
    from lhq.images import inspect

    try:
        header = inspect(data)
    except ImageError as error:
        if not (error.reason and error.hint):
            raise ValueError(f"no reason or no hint: {error!r}") from error
        return
    assert header.width_px > 0
    assert header.height_px > 0
    assert header.coding


def pixels(data: bytes) -> None:
    """Every reader of pixels: the preview, decoding in full and reduced, the trainer's batch."""
    import numpy as np

    from alis.data.decode import BadImage, decode_into
    from lhq.errors import ImageError
    from lhq.images import decode, inspect
    from lhq.measures.preview import preview
    from lhq.records import Photo

    try:
        header = inspect(data, max_pixels=_SMALL_PX)
    except ImageError:
        return
    seen = preview(Photo("x:1", bytes(data), header.width_px, header.height_px, sha256=header.sha256))
    assert (seen.rgbx is None) == bool(seen.error)
    for short_side_px in (None, 48):
        try:
            image = decode(data, header=header, short_side_px=short_side_px)
        except ImageError:
            continue
        assert image.mode == "RGB"
        assert short_side_px or image.size == header.upright_px
    for side in (64, min(header.width_px, header.height_px, 512)):
        try:
            decode_into(data, np.empty((side, side, 3), np.uint8), "resize")
        except BadImage:
            pass


def others(data: bytes) -> None:
    """The trainer's reader of formats that datasets don't hold."""
    from alis.data.decode import BadImage, open_picture
    from lhq.images import set_max_pixels

    set_max_pixels(_SMALL_PX)
    try:
        image = open_picture(data, 16)
    except BadImage:
        return
    assert image.mode == "RGB"


def colour(data: bytes) -> None:
    """A PNG of one row whose colour chunks are the input: profiles, gammas, primaries, transparency."""
    from lhq.errors import ImageError
    from lhq.images import decode

    names = [b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"tRNS", b"PLTE"]
    colour, bits = [(0, 8), (0, 16), (2, 8), (2, 16), (3, 8), (4, 16), (6, 8)][data[0] % 7 if data else 0]
    chunks, at = [struct.pack(">IIBBBBB", 4, 1, bits, colour, 0, 0, 0)], 1
    body = _chunk(b"IHDR", chunks[0])
    while at + 2 <= len(data):
        name, size = names[data[at] % len(names)], data[at + 1]
        part = data[at + 2 : at + 2 + size]
        body += _chunk(name, b"x\0\0" + zlib.compress(part) if name == b"iCCP" else part)
        at += 2 + size
    row = b"\0" + bytes(range(4 * 4 * bits // 8))
    body += _chunk(b"IDAT", zlib.compress(row)) + _chunk(b"IEND", b"")
    try:
        image = decode(b"\x89PNG\r\n\x1a\n" + body)
    except ImageError:
        return
    assert (image.mode, image.size) == ("RGB", (4, 1))


def spool(data: bytes) -> None:
    """A spool that was torn, flipped or written by somebody else: opened, it holds whole photos or none."""
    from lhq.crawl.spool import Spool
    from lhq.errors import StoreError

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "spool", "000000.spool")
        place.parent.mkdir()
        place.write_bytes(data)
        try:
            opened = Spool(folder, 0)
        except StoreError:
            return
        for entry in opened.entries:
            assert opened.papers(entry)["id"] == entry.id
        opened.close()


def pickles(data: bytes) -> None:
    """A published checkpoint: read without running anything of it."""
    from alis.errors import AlisError
    from alis.import_published import pickles

    try:
        pickles.read(io.BytesIO(data), "fuzzed")
    except AlisError:
        pass


def permalinks(data: bytes) -> None:
    """The part of a live page's address that says which panorama it shows."""
    from alis.errors import AlisError
    from alis.plane.anchors import Sketch

    text = data.decode("utf-8", "replace")
    try:
        sketch = Sketch.parse(text)
    except AlisError:
        return
    assert Sketch.parse(sketch.text) == sketch


TARGETS: dict[str, Callable[[bytes], None]] = {
    "door": door,
    "pixels": pixels,
    "others": others,
    "colour": colour,
    "spool": spool,
    "pickles": pickles,
    "permalinks": permalinks,
}


def seeds(name: str) -> list[bytes]:
    """What a target's corpus starts with."""
    if name in {"door", "pixels"}:
        files = [path for path in sorted((SHARED / "nasty").rglob("*")) if path.is_file()]
        small = [path.read_bytes() for path in files if path.stat().st_size < 64 * 1024]
        return small or _pictures()
    if name == "others":
        return [_picture(mode, kind, **options) for mode, kind, options in _OTHERS]
    if name == "spool":
        return [_record(data) for data in _pictures()]
    if name == "pickles":
        import pickle

        values: list[object] = [{"a": [1, 2.5, None]}, (b"x" * 300, {"n": {1, 2}}), ["deep", [["er"]]]]
        return [pickle.dumps(value, protocol) for value in values for protocol in range(6)]
    if name == "permalinks":
        return [b"7/-", b"7/p70_a3v2", b"7/cn_nn", b"12/c3_nc_r8_a3s7i0v0", b"7/a-3fname_a9v12", b"7/p999", b"7/r1"]
    return [b"\x00\x00\x04\x00\x00\xb1\x8f", b"\x02\x01\x20" + bytes(32), bytes(64), b"\x05\x03\x08ICC prof"]


_OTHERS: list[tuple[str, str, dict[str, object]]] = [
    ("RGB", "BMP", {}),
    ("P", "BMP", {}),
    ("P", "GIF", {}),
    ("P", "GIF", {"transparency": 3}),
    *(("RGB", "TIFF", {"compression": name}) for name in ("raw", "tiff_deflate", "tiff_lzw", "jpeg", "packbits")),
    ("1", "TIFF", {"compression": "group4"}),
    ("CMYK", "TIFF", {"tiffinfo": {274: 6}}),
    *(("RGB", kind, {}) for kind in ("ICO", "PPM", "TGA", "JPEG2000", "AVIF")),
]


def _pictures() -> list[bytes]:
    kinds = [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("P", "PNG"), ("RGB", "WEBP")]
    return [_picture(mode, kind) for mode, kind in kinds]


def _picture(mode: str, kind: str, **options: object) -> bytes:
    from PIL import Image

    sink = io.BytesIO()
    Image.linear_gradient("L").resize((40, 30)).convert("RGB").convert(mode).save(sink, kind, **options)
    return sink.getvalue()


def _record(data: bytes) -> bytes:
    """One record of a spool."""
    import hashlib

    block = json.dumps({"id": "x:1", "sha256": hashlib.sha256(data).hexdigest()}).encode()
    return struct.pack("<4sIQI", b"LHQ1", len(block), len(data), zlib.crc32(block)) + block + data


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
