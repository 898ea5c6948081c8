"""Parsers of JPEG, PNG and WebP containers: size, colour model, coding and EXIF, without decoding a pixel.

Each parser walks the file to its end marker, so that a truncated file is detected without decoding it.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lhq.errors import ImageError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_SCANS = 100
"""A baseline photograph has one scan, a progressive one about ten; hundreds take a minute to decode and add nothing."""

# JPEG frame markers (ITU-T T.81, table B.1): those that our decoders read, and those that none of them reads.
_CODINGS = {
    0xC0: "baseline",
    0xC1: "extended",
    0xC2: "progressive",
    0xC3: "lossless",
    0xC9: "arithmetic",
    0xCA: "progressive arithmetic",
}
_UNSUPPORTED_CODINGS = {
    0xC5: "hierarchical",
    0xC6: "hierarchical progressive",
    0xC7: "hierarchical lossless",
    0xCB: "lossless arithmetic",
    0xCD: "hierarchical arithmetic",
    0xCE: "hierarchical progressive arithmetic",
    0xCF: "hierarchical lossless arithmetic",
}
_MAX_JUNK = 64 * 1024
_PALETTE = 3  # colour type of a PNG with a palette
# In memory, Pillow's or (16 bits of colour) our own; 4 in every other mode.
_BYTES_PER_PIXEL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "RGB;16": 6, "RGBA;16": 8}
_COLOUR_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"iCCP"}


@dataclass(frozen=True, slots=True)
class Structure:
    """An image's properties as its container states them.

    `width_px` and `height_px` are as stored; `mode` is Pillow's name of the colour model; `coding` says how the pixels
    are compressed; `decoder_bytes` is the memory that a decoder needs besides the decoded image.
    """

    width_px: int
    height_px: int
    mode: str
    coding: str
    decoder_bytes: int = 0
    exif: memoryview | None = None


def corrupt(kind: str, problem: str) -> ImageError:
    return ImageError(f"{kind} header: {problem}", hint="fetch it again", reason="corrupt-header")


def truncated(kind: str, marker: str) -> ImageError:
    return ImageError(f"{kind} has no {marker}: the end is missing", hint="fetch it again", reason="truncated")


def _unsupported(problem: str) -> ImageError:
    return ImageError(problem, hint="only JPEG, PNG and WebP that browsers show are kept", reason="unsupported-type")


# --- JPEG -------------------------------------------------------------------------------------------------------


def parse_jpeg(view: memoryview) -> Structure:
    """Parse a JPEG. Source: ITU-T T.81, annex B.

    Entropy-coded data can't contain FF D9, so EOI is searched for only after the first scan's header: the EOI of an
    EXIF thumbnail comes before it and doesn't count.
    """
    structure, offset = parse_jpeg_header(view)
    # EOI is usually in the last few bytes; trailing data (a second MPO frame) is rare.
    if (
        bytes(view[max(offset, len(view) - 64) :]).rfind(b"\xff\xd9") < 0
        and bytes(view[offset:]).rfind(b"\xff\xd9") < 0
    ):
        raise truncated("jpeg", "EOI marker")
    if has_too_many_scans(view, structure, offset):
        raise ImageError(
            f"jpeg of more than {MAX_SCANS} scans", hint="photographs have about ten", reason="too-many-scans"
        )
    return structure


def has_too_many_scans(view: memoryview, structure: Structure, offset: int) -> bool:
    """Whether a JPEG whose first scan's data begins at `offset` has more than `MAX_SCANS`: each takes a decoder as long
    as a whole picture."""
    # Others have one scan a component at most, of which the decoder reads no more where the first has all components.
    is_in_scans = "progressive" in structure.coding or structure.decoder_bytes > 0
    may_be = is_in_scans and bytes(view[offset:]).count(b"\xff\xda") >= MAX_SCANS
    return may_be and _num_scans(view, offset) > MAX_SCANS


def _num_scans(view: memoryview, offset: int) -> int:
    """Scans of a JPEG whose first scan's data begins at `offset`; counting ends beyond `MAX_SCANS`, and at EOI: what
    comes after it (a film, another picture) may hold any bytes."""
    num, data = 1, bytes(view)
    while num <= MAX_SCANS and (found := _MARKER.search(data, offset)):
        marker, offset = data[found.end() - 1], found.end()
        if marker == 0xD9:
            break
        num += marker == 0xDA
        offset += int.from_bytes(data[offset : offset + 2], "big")
    return num


_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")  # neither a stuffed byte nor a restart


def parse_jpeg_header(view: memoryview) -> tuple[Structure, int]:
    """Parse a JPEG up to its first scan; return its structure and the scan's offset in bytes.

    Raises:
        ImageError: there is no frame header, or it is of a coding that our decoders don't read.
        IndexError, struct.error: the file ends before its first scan.
    """
    structure: Structure | None = None
    num_components, samples = 0, 0
    exif = None
    offset = 2
    while True:
        if view[offset] != 0xFF:
            # Some encoders leave junk between segments; decoders and browsers skip it.
            junk = bytes(view[offset : offset + _MAX_JUNK]).find(0xFF)
            if junk < 0:
                raise corrupt("jpeg", f"no marker at byte {offset}")
            offset += junk
        while view[offset + 1] == 0xFF:
            offset += 1
        marker = view[offset + 1]
        if marker == 0xD9:
            raise corrupt("jpeg", "no scan before EOI")
        if marker <= 0x01 or 0xD0 <= marker <= 0xD8:
            offset += 2
            continue
        (length,) = struct.unpack_from(">H", view, offset + 2)
        if length < 2:
            raise corrupt("jpeg", f"segment of length {length} at byte {offset}")
        if marker in _UNSUPPORTED_CODINGS:
            raise _unsupported(f"a {_UNSUPPORTED_CODINGS[marker]} JPEG")
        if marker in _CODINGS:
            if structure is not None:
                raise corrupt("jpeg", "two frames")
            structure, num_components, samples = _frame(view[offset + 4 : offset + 2 + length], _CODINGS[marker])
        elif marker == 0xE1 and exif is None and bytes(view[offset + 4 : offset + 9]) == b"Exif\0":
            exif = view[offset + 10 : offset + 2 + length]
        if marker == 0xDA:
            break
        offset += 2 + length
    if structure is None:
        raise corrupt("jpeg", "no frame header before the scan")
    # With several scans, the decoder keeps all coefficients (two bytes each) in memory until the last scan.
    held = 2 * samples if "progressive" in structure.coding or view[offset + 4] < num_components else 0
    if structure.coding not in {"baseline", "extended", "progressive"}:
        held += (
            structure.width_px * structure.height_px * _BYTES_PER_PIXEL.get(structure.mode, 4)
        )  # read whole, at full size
    return Structure(
        structure.width_px, structure.height_px, structure.mode, structure.coding, held, exif
    ), offset + 2 + length


def _frame(body: memoryview, coding: str) -> tuple[Structure, int, int]:
    """Parse a frame header: (structure, number of components, number of samples of all components)."""
    bits, height, width, parts = struct.unpack_from(">BHHB", body)
    mode = {1: "L", 3: "RGB", 4: "CMYK"}.get(parts)
    if mode is None or len(body) != 6 + 3 * parts:
        raise corrupt("jpeg", f"{parts} components of {bits} bits in {len(body)} bytes")
    if bits != 8:
        raise _unsupported(f"a JPEG of {bits} bits a sample")
    across, down = zip(*((body[7 + 3 * n] >> 4, body[7 + 3 * n] & 15) for n in range(parts)), strict=True)
    if not all(1 <= factor <= 4 for factor in across + down):
        raise corrupt("jpeg", f"sampling of {across} by {down}")
    shares = sum(a * d for a, d in zip(across, down, strict=True)) / (max(across) * max(down))
    return Structure(width, height, mode, coding), parts, round(width * height * shares)


# --- PNG --------------------------------------------------------------------------------------------------------


def parse_png(view: memoryview) -> Structure:
    """Parse a PNG. Source: W3C PNG, third edition, 5 and 11."""
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
        elif kind == b"eXIf" and exif is None:
            exif = body
        elif kind == b"acTL" and len(body) == 8 and struct.unpack_from(">I", body)[0] > 1:
            raise ImageError("an animated PNG", hint="only still pictures are kept", reason="animated")
    if not num_data:
        raise corrupt("png", "no IDAT")
    if not interlace:
        return Structure(width, height, mode, "plain", 0, exif)
    return Structure(width, height, mode, "interlaced", width * height * _BYTES_PER_PIXEL.get(mode, 4), exif)


def png_chunks(view: memoryview, *, is_checked: bool = True) -> Iterator[tuple[bytes, memoryview]]:
    """Yield (type, data) of every chunk before IEND; skip ancillary chunks with a wrong checksum, as browsers do.

    Raises:
        ImageError: `truncated`; `corrupt-header` if `is_checked` and the checksum of a critical chunk is wrong.
    """
    offset = len(PNG_SIGNATURE)
    while True:
        if offset + 12 > len(view):
            raise truncated("png", "IEND chunk")
        length, kind = struct.unpack_from(">I4s", view, offset)
        end = offset + 12 + length
        if end > len(view):
            raise truncated("png", "IEND chunk")
        # Bit 5 of the first letter marks ancillary chunks, which may be corrupt without harm to the pixels.
        is_ancillary, is_whole = bool(kind[0] & 0x20), True
        if is_checked or is_ancillary:
            (crc,) = struct.unpack_from(">I", view, end - 4)
            is_whole = zlib.crc32(view[offset + 4 : end - 4]) == crc
        if not is_whole and not is_ancillary:
            raise corrupt("png", f"checksum of {kind.decode('latin-1')!r} is wrong")
        if kind == b"IEND":
            return
        if is_whole:
            yield kind, view[offset + 8 : end - 4]
        offset = end


def png_colour_chunks(view: memoryview) -> dict[bytes, bytes]:
    """Type → data of the first chunk of each type before IDAT that describes colours.

    The palette is extended by its last colour to every index that a pixel can have, as in browsers; transparency that
    comes before its palette is invalid and left out.
    """
    structure: dict[bytes, bytes] = {}
    for kind, body in png_chunks(view, is_checked=False):
        if kind == b"IDAT":
            break
        is_early = kind == b"tRNS" and structure[b"IHDR"][9] == _PALETTE and b"PLTE" not in structure
        if kind in _COLOUR_CHUNKS and not is_early:
            structure.setdefault(kind, bytes(body))
    palette, num = structure.get(b"PLTE", b""), 2 ** structure[b"IHDR"][8]
    if structure[b"IHDR"][9] == _PALETTE and len(palette) >= 3:
        palette = palette[: len(palette) // 3 * 3]
        structure[b"PLTE"] = (palette + palette[-3:] * num)[: 3 * num]
    return structure


def png_of_pixels(view: memoryview, chunks: Mapping[bytes, bytes]) -> bytes:
    """The same PNG reduced to its pixels, so that no decoder fails on a corrupt comment or profile.

    Args:
        chunks: from `png_colour_chunks`.
    """
    out = [PNG_SIGNATURE]
    out += [png_chunk(kind, chunks[kind]) for kind in (b"IHDR", b"PLTE", b"tRNS") if kind in chunks]
    out += [png_chunk(kind, body) for kind, body in png_chunks(view, is_checked=False) if kind == b"IDAT"]
    return b"".join([*out, png_chunk(b"IEND", b"")])


def png_chunk(kind: bytes, body: bytes | memoryview) -> bytes:
    """One chunk with its length and checksum."""
    return b"".join([struct.pack(">I", len(body)), kind, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))])


# --- WebP -------------------------------------------------------------------------------------------------------

# Memory of libwebp's canvas decoder and one copy of its output; measured on 30 megapixels.
_WEBP_BYTES_PER_PIXEL = {"lossy": 12, "lossless": 14}


def parse_webp(view: memoryview) -> Structure:
    """Parse a WebP. Source: RFC 9649."""
    (riff,) = struct.unpack_from("<I", view, 4)
    if riff + 8 > len(view):
        raise truncated("webp", f"byte {riff + 8:,} that its RIFF header promises")
    size: tuple[int, int, str] | None = None
    exif, offset, coding = None, 12, ""
    while offset + 8 <= riff + 8:
        kind, length = struct.unpack_from("<4sI", view, offset)
        body = view[offset + 8 : offset + 8 + length]
        if offset + 8 + length > riff + 8:
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
        offset += 8 + length + (length & 1)
    if size is None or not coding:
        raise corrupt("webp", "no picture chunk")
    return Structure(*size, coding, size[0] * size[1] * _WEBP_BYTES_PER_PIXEL[coding], exif)


PARSERS = {"jpeg": parse_jpeg, "png": parse_png, "webp": parse_webp}


def exif_orientation(exif: memoryview) -> int:
    """EXIF orientation 1-8 (tag 0x0112 of IFD0); 1 if missing or invalid, since a bad tag must not lose a photo."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(exif[:2]))
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (num_tags,) = struct.unpack_from(f"{order}H", exif, start)
        for offset in range(start + 2, start + 2 + 12 * num_tags, 12):
            tag, kind, count = struct.unpack_from(f"{order}HHI", exif, offset)
            if tag == 0x0112:
                (value,) = struct.unpack_from(f"{order}H" if kind != 4 else f"{order}I", exif, offset + 8)
                return int(value) if count == 1 and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
