"""A file's structure → what it says of its picture: JPEG, PNG and WebP, from the first marker to the last.

No pixel is decoded. Each parser follows its format to the end marker, so a file that was cut short is known without
looking at a pixel.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from lhq.errors import ImageError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SOF = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_MAX_JUNK = 64 * 1024

Parsed = tuple[int, int, str, memoryview | None]
"""Width and height as stored, Pillow's word for the colour model, and the EXIF block where there is one."""


def corrupt(kind: str, what: str) -> ImageError:
    return ImageError(f"{kind} header: {what}", hint="fetch it again", reason="corrupt-header")


def truncated(kind: str, marker: str) -> ImageError:
    return ImageError(f"{kind} has no {marker}: the end is missing", hint="fetch it again", reason="truncated")


def _jpeg(view: memoryview) -> Parsed:
    """Source: ITU-T T.81 annex B. Entropy-coded data holds no FF D9, so EOI is sought after the first scan's
    header only: the one of an EXIF thumbnail, which lies before it, doesn't count."""
    size: tuple[int, int, str] | None = None
    exif = None
    at = 2
    while True:
        if view[at] != 0xFF:
            # Some writers leave junk between segments; decoders and browsers skip it.
            junk = bytes(view[at : at + _MAX_JUNK]).find(0xFF)
            if junk < 0:
                raise corrupt("jpeg", f"no marker at byte {at}")
            at += junk
        while view[at + 1] == 0xFF:
            at += 1
        marker = view[at + 1]
        if marker == 0xD9:
            raise corrupt("jpeg", "no scan before EOI")
        if marker <= 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", view, at + 2)
        if length < 2:
            raise corrupt("jpeg", f"segment of length {length} at byte {at}")
        if marker in _SOF:
            bits, height, width, parts = struct.unpack_from(">BHHB", view, at + 4)
            mode = {1: "L", 3: "RGB", 4: "CMYK"}.get(parts)
            if mode is None or bits not in {8, 12, 16}:
                raise corrupt("jpeg", f"{parts} components of {bits} bits")
            size = (width, height, mode if bits == 8 else f"{mode};{bits}")
        elif marker == 0xE1 and exif is None and bytes(view[at + 4 : at + 10]) == b"Exif\0\0":
            exif = view[at + 10 : at + 2 + length]
        at += 2 + length
        if marker == 0xDA:
            break
    if size is None:
        raise corrupt("jpeg", "no frame header before the scan")
    # The marker of a whole file is in its last bytes; trailing bytes (a second MPO frame) are rare.
    if bytes(view[max(at, len(view) - 64) :]).rfind(b"\xff\xd9") < 0 and bytes(view[at:]).rfind(b"\xff\xd9") < 0:
        raise truncated("jpeg", "EOI marker")
    return *size, exif


def _png(view: memoryview) -> Parsed:
    """Source: W3C PNG, third edition, 5 and 11."""
    chunks = _png_chunks(view)
    kind, body = next(chunks)
    if kind != b"IHDR" or len(body) != 13:
        raise corrupt("png", "does not start with IHDR")
    width, height, bits, colour, deflate, filters, interlace = struct.unpack(">IIBBBBB", body)
    allowed = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.get(colour, ())
    if bits not in allowed or deflate or filters or interlace > 1:
        raise corrupt("png", f"colour type {colour}, {bits} bits, methods {deflate}/{filters}/{interlace}")
    mode = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}[colour]
    if bits == 16:
        mode = "I;16" if mode == "L" else f"{mode};16"
    elif bits == 1 and mode == "L":
        mode = "1"
    exif, num_data = None, 0
    for kind, body in chunks:
        if kind == b"IDAT":
            num_data += 1
        elif kind == b"eXIf":
            exif = body
        elif kind == b"acTL" and len(body) == 8 and struct.unpack_from(">I", body)[0] > 1:
            raise ImageError("an animated PNG", hint="only still pictures are kept", reason="animated")
    if not num_data:
        raise corrupt("png", "no IDAT")
    return width, height, mode, exif


def _png_chunks(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    at = len(PNG_SIGNATURE)
    while True:
        if at + 12 > len(view):
            raise truncated("png", "IEND chunk")
        length, kind = struct.unpack_from(">I4s", view, at)
        end = at + 12 + length
        if end > len(view):
            raise truncated("png", "IEND chunk")
        (crc,) = struct.unpack_from(">I", view, end - 4)
        # Bit 5 of the first letter: ancillary chunks may be wrong without harm to the picture.
        if not kind[0] & 0x20 and zlib.crc32(view[at + 4 : end - 4]) != crc:
            raise corrupt("png", f"checksum of {kind.decode('latin-1')!r} is wrong")
        if kind == b"IEND":
            return
        yield kind, view[at + 8 : end - 4]
        at = end


def _webp(view: memoryview) -> Parsed:
    """Source: RFC 9649."""
    (riff,) = struct.unpack_from("<I", view, 4)
    if riff + 8 > len(view):
        raise truncated("webp", f"byte {riff + 8:,} that its RIFF header promises")
    size: tuple[int, int, str] | None = None
    exif, at, has_picture = None, 12, False
    while at + 8 <= riff + 8:
        kind, length = struct.unpack_from("<4sI", view, at)
        body = view[at + 8 : at + 8 + length]
        if at + 8 + length > riff + 8:
            raise truncated("webp", f"end of its {kind.decode('latin-1')!r} chunk")
        if kind == b"VP8X":
            if body[0] & 0x02:
                raise ImageError("an animated WebP", hint="only still pictures are kept", reason="animated")
            size = (
                1 + int.from_bytes(body[4:7], "little"),
                1 + int.from_bytes(body[7:10], "little"),
                "RGBA" if body[0] & 0x10 else "RGB",
            )
        elif kind == b"VP8 ":
            if bytes(body[3:6]) != b"\x9d\x01\x2a":
                raise corrupt("webp", "no key frame")
            width, height = struct.unpack_from("<HH", body, 6)
            size = size or (width & 0x3FFF, height & 0x3FFF, "RGB")
            has_picture = True
        elif kind == b"VP8L":
            if body[0] != 0x2F:
                raise corrupt("webp", "no lossless signature")
            (bits,) = struct.unpack_from("<I", body, 1)
            size = size or (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), "RGBA" if bits >> 28 & 1 else "RGB")
            has_picture = True
        elif kind == b"EXIF":
            exif = body[6:] if bytes(body[:6]) == b"Exif\0\0" else body
        at += 8 + length + (length & 1)
    if size is None or not has_picture:
        raise corrupt("webp", "no picture chunk")
    return *size, exif


PARSERS = {"jpeg": _jpeg, "png": _png, "webp": _webp}


def orientation_of(exif: memoryview) -> int:
    """Tag 0x0112 of IFD0; 1 where the block is absent, odd or broken: a wrong tag must not lose a photo."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(exif[:2]))
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (num_tags,) = struct.unpack_from(f"{order}H", exif, start)
        for at in range(start + 2, start + 2 + 12 * num_tags, 12):
            tag, kind, count = struct.unpack_from(f"{order}HHI", exif, at)
            if tag == 0x0112:
                (value,) = struct.unpack_from(f"{order}H" if kind != 4 else f"{order}I", exif, at + 8)
                return int(value) if count == 1 and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
