"""A file's structure → what it says of its picture: JPEG, PNG and WebP, from the first marker to the last.

No pixel is decoded. Each parser follows its format to the end marker, so a file that was cut short is known without
looking at a pixel.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from lhq.errors import ImageError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_SCANS = 100
"""A photograph has one scan, or about ten where it is progressive; hundreds cost a minute and show nothing more."""

# Frame types of JPEG (ITU-T T.81, table B.1), by the names of their coding; those without one no decoder here reads.
_CODINGS = {
    0xC0: "baseline",
    0xC1: "extended",
    0xC2: "progressive",
    0xC3: "lossless",
    0xC9: "arithmetic",
    0xCA: "progressive arithmetic",
}
_UNREAD = {
    0xC5: "hierarchical",
    0xC6: "hierarchical progressive",
    0xC7: "hierarchical lossless",
    0xCB: "lossless arithmetic",
    0xCD: "hierarchical arithmetic",
    0xCE: "hierarchical progressive arithmetic",
    0xCF: "hierarchical lossless arithmetic",
}
_MAX_JUNK = 64 * 1024
_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2}  # of a pixel in Pillow's memory; of all other modes four
_COLOUR_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"cICP"}


@dataclass(frozen=True, slots=True)
class Structure:
    """What a file says of its picture: the size as stored, Pillow's word for the colour model, how the pixels are
    coded, the bytes that a decoder must hold besides the picture, and the EXIF block where there is one."""

    width_px: int
    height_px: int
    mode: str
    coding: str
    held_bytes: int = 0
    exif: memoryview | None = None


def corrupt(kind: str, what: str) -> ImageError:
    return ImageError(f"{kind} header: {what}", hint="fetch it again", reason="corrupt-header")


def truncated(kind: str, marker: str) -> ImageError:
    return ImageError(f"{kind} has no {marker}: the end is missing", hint="fetch it again", reason="truncated")


def _unread(what: str) -> ImageError:
    return ImageError(what, hint="only JPEG, PNG and WebP that browsers show are kept", reason="unsupported-type")


# --- JPEG -------------------------------------------------------------------------------------------------------


def jpeg(view: memoryview) -> Structure:
    """Source: ITU-T T.81 annex B. Entropy-coded data holds no FF D9, so EOI is sought after the first scan's
    header only: the one of an EXIF thumbnail, which lies before it, doesn't count."""
    found, at = jpeg_frame(view)
    # The marker of a whole file is in its last bytes; trailing bytes (a second MPO frame) are rare.
    if bytes(view[max(at, len(view) - 64) :]).rfind(b"\xff\xd9") < 0 and bytes(view[at:]).rfind(b"\xff\xd9") < 0:
        raise truncated("jpeg", "EOI marker")
    if "progressive" in found.coding and bytes(view[at:]).count(b"\xff\xda") >= MAX_SCANS:
        raise ImageError(
            f"jpeg of more than {MAX_SCANS} scans", hint="photographs have about ten", reason="too-many-scans"
        )
    return found


def jpeg_frame(view: memoryview) -> tuple[Structure, int]:
    """What stands before the first scan, and where that begins.

    Raises:
        ImageError: a frame that no decoder here reads, or no frame at all.
        IndexError, struct.error: the file ends before its first scan.
    """
    found: Structure | None = None
    num_parts, samples = 0, 0
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
        if marker in _UNREAD:
            raise _unread(f"a {_UNREAD[marker]} JPEG")
        if marker in _CODINGS:
            if found is not None:
                raise corrupt("jpeg", "two frames")
            found, num_parts, samples = _frame(view[at + 4 : at + 2 + length], _CODINGS[marker])
        elif marker == 0xE1 and exif is None and bytes(view[at + 4 : at + 10]) == b"Exif\0\0":
            exif = view[at + 10 : at + 2 + length]
        if marker == 0xDA:
            break
        at += 2 + length
    if found is None:
        raise corrupt("jpeg", "no frame header before the scan")
    # More than one scan: the coefficients of the whole picture are held, two bytes each, until the last has come.
    held = 2 * samples if "progressive" in found.coding or view[at + 4] < num_parts else 0
    if found.coding not in {"baseline", "extended", "progressive"}:
        held += found.width_px * found.height_px * _BYTES.get(found.mode, 4)  # read whole, at full size
    return Structure(found.width_px, found.height_px, found.mode, found.coding, held, exif), at + 2 + length


def _frame(body: memoryview, coding: str) -> tuple[Structure, int, int]:
    """(frame, components, samples of all components)."""
    bits, height, width, parts = struct.unpack_from(">BHHB", body)
    mode = {1: "L", 3: "RGB", 4: "CMYK"}.get(parts)
    if mode is None or len(body) != 6 + 3 * parts:
        raise corrupt("jpeg", f"{parts} components of {bits} bits in {len(body)} bytes")
    if bits != 8:
        raise _unread(f"a JPEG of {bits} bits a sample")
    across, down = zip(*((body[7 + 3 * n] >> 4, body[7 + 3 * n] & 15) for n in range(parts)), strict=True)
    if not all(1 <= factor <= 4 for factor in across + down):
        raise corrupt("jpeg", f"sampling of {across} by {down}")
    shares = sum(a * d for a, d in zip(across, down, strict=True)) / (max(across) * max(down))
    return Structure(width, height, mode, coding), parts, round(width * height * shares)


# --- PNG --------------------------------------------------------------------------------------------------------


def png(view: memoryview) -> Structure:
    """Source: W3C PNG, third edition, 5 and 11."""
    chunks = png_chunks(view)
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
    if not interlace:
        return Structure(width, height, mode, "plain", 0, exif)
    return Structure(width, height, mode, "interlaced", width * height * _BYTES.get(mode, 4), exif)


def png_chunks(view: memoryview, *, is_checked: bool = True) -> Iterator[tuple[bytes, memoryview]]:
    """Every chunk before IEND: (name, body).

    Raises:
        ImageError: `truncated`, or `corrupt-header` where the checksum of a critical chunk is wrong.
    """
    at = len(PNG_SIGNATURE)
    while True:
        if at + 12 > len(view):
            raise truncated("png", "IEND chunk")
        length, kind = struct.unpack_from(">I4s", view, at)
        end = at + 12 + length
        if end > len(view):
            raise truncated("png", "IEND chunk")
        # Bit 5 of the first letter: ancillary chunks may be wrong without harm to the picture.
        if is_checked and not kind[0] & 0x20:
            (crc,) = struct.unpack_from(">I", view, end - 4)
            if zlib.crc32(view[at + 4 : end - 4]) != crc:
                raise corrupt("png", f"checksum of {kind.decode('latin-1')!r} is wrong")
        if kind == b"IEND":
            return
        yield kind, view[at + 8 : end - 4]
        at = end


def png_colour_chunks(view: memoryview) -> dict[bytes, bytes]:
    """Name → body of the first of each chunk before IDAT that says what the numbers mean, but iCCP."""
    found: dict[bytes, bytes] = {}
    for kind, body in png_chunks(view, is_checked=False):
        if kind == b"IDAT":
            break
        if kind in _COLOUR_CHUNKS:
            found.setdefault(kind, bytes(body))
    return found


# --- WebP -------------------------------------------------------------------------------------------------------

# Bytes a pixel that libwebp's canvas decoder and one copy of what it shows hold; measured on 30 megapixels.
_WEBP_BYTES = {"lossy": 12, "lossless": 14}


def webp(view: memoryview) -> Structure:
    """Source: RFC 9649."""
    (riff,) = struct.unpack_from("<I", view, 4)
    if riff + 8 > len(view):
        raise truncated("webp", f"byte {riff + 8:,} that its RIFF header promises")
    size: tuple[int, int, str] | None = None
    exif, at, coding = None, 12, ""
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
            coding = "lossy"
        elif kind == b"VP8L":
            if body[0] != 0x2F:
                raise corrupt("webp", "no lossless signature")
            (bits,) = struct.unpack_from("<I", body, 1)
            size = size or (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), "RGBA" if bits >> 28 & 1 else "RGB")
            coding = "lossless"
        elif kind == b"EXIF":
            exif = body[6:] if bytes(body[:6]) == b"Exif\0\0" else body
        at += 8 + length + (length & 1)
    if size is None or not coding:
        raise corrupt("webp", "no picture chunk")
    return Structure(*size, coding, size[0] * size[1] * _WEBP_BYTES[coding], exif)


PARSERS = {"jpeg": jpeg, "png": png, "webp": webp}


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
