"""Read the XMP of an image file, or strip all metadata losslessly.

Stripping keeps what the image needs to look right: its colour profile and, unless it is upright, its orientation. It
removes where, when, by whom and with what the photo was taken, and thumbnails, which may show an earlier version.
"""

from __future__ import annotations

import contextlib
import re
import struct
import zlib
from collections.abc import Iterator

from lhq.images.containers import PNG_SIGNATURE, png_chunk
from lhq.images.header import Header, sniff

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_MAX_XMP_BYTES = 16 * 2**20
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
# JPEG frames that may have a single scan, and the markers between C0 and CF that aren't frames: DHT, JPG, DAC.
_SEQUENTIAL = frozenset({0xC0, 0xC1})
_NOT_FRAMES = frozenset({0xC4, 0xC8, 0xCC})
# Chunks that define how pixels look; all other ancillary chunks are metadata.
_PNG_KEPT = frozenset(
    {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV"}
    | {b"cLLI", b"bKGD", b"pHYs", b"hIST"}
)
_PNG_TEXTS = frozenset({b"iTXt", b"zTXt", b"tEXt"})
_RAW_PROFILES = frozenset({b"raw profile type xmp", b"raw profile type app1"})
_WEBP_KEPT = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ICCP"})


def xmp_packets(data: bytes | bytearray) -> list[bytes]:
    """The XMP packets of a JPEG, PNG or WebP, with extended XMP joined, and a PNG's compressed texts.

    Corrupt packets are skipped.
    """
    view = memoryview(data)
    kind = sniff(view)
    found: list[bytes] = []
    with contextlib.suppress(IndexError, struct.error):
        if kind == "jpeg":
            _jpeg_xmp(view, found)
        elif kind == "png":
            _png_xmp(view, found)
        elif kind == "webp":
            found += (bytes(body) for name, body in _webp_chunks(view) if name == b"XMP ")
    return [packet for packet in found if packet]


def metadata_bytes(data: bytes | bytearray) -> bytes | bytearray:
    """The part of a file that may contain metadata.

    For a sequential JPEG that ends with its only scan, everything before the scan: searching entropy-coded pixels, the
    bulk of a photo, takes as long as hashing them. For any other file, including a JPEG with a second image or more
    scans, all of it.
    """
    view = memoryview(data)
    if sniff(view) != "jpeg" or bytes(view[-2:]) != b"\xff\xd9":
        return data
    num_bytes, num_components = 2, 0
    try:
        for marker, segment in _segments(view):
            if marker == 0xDA:
                is_first = bytes(view[num_bytes : num_bytes + 2]) == b"\xff\xda"  # no bytes between the segments
                return data[:num_bytes] if is_first and segment[4] == num_components else data
            if marker in _SEQUENTIAL:
                num_components = segment[9]
            elif (0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES) or bytes(segment[4:8]) == b"MPF\0":
                return data
            num_bytes += len(segment)
    except (IndexError, struct.error):
        pass
    return data


def strip_metadata(data: bytes | bytearray, header: Header) -> bytes:
    """Remove EXIF, XMP, IPTC, comments and thumbnails; the compressed pixels stay byte for byte the same.

    Args:
        data: a complete JPEG, PNG or WebP.
        header: the result of `inspect(data)`.
    """
    view = memoryview(data)
    if header.format == "jpeg":
        return _strip_jpeg(view, header.orientation)
    return (_strip_png if header.format == "png" else _strip_webp)(view, header.orientation)


# --- JPEG -----------------------------------------------------------------------------------------------------------


def _segments(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield (marker, segment) up to the end of the first image; entropy-coded data has marker 0."""
    offset = 2
    while offset + 2 <= len(view):
        if view[offset] != 0xFF or view[offset + 1] == 0xFF:
            offset += 1
            continue
        marker = view[offset + 1]
        if marker == 0xD9:
            return
        if marker <= 0x01 or 0xD0 <= marker <= 0xD8:
            offset += 2
            continue
        (length,) = struct.unpack_from(">H", view, offset + 2)
        end = offset + 2 + length
        yield marker, view[offset:end]
        offset = end
        if marker == 0xDA:
            end = _end_of_scan(view, offset)
            yield 0, view[offset:end]
            offset = end


def _end_of_scan(view: memoryview, offset: int) -> int:
    """Offset of the next marker that is neither byte stuffing nor a restart."""
    found = _MARKER.search(view, offset)
    return found.start() if found else len(view)


def _jpeg_xmp(view: memoryview, found: list[bytes]) -> None:
    parts: dict[bytes, list[tuple[int, bytes]]] = {}
    try:
        for marker, segment in _segments(view):
            if marker == 0xDA:
                break
            body = bytes(segment[4:])
            if marker == 0xE1 and body.startswith(_XMP):
                found.append(body[len(_XMP) :])
            elif marker == 0xE1 and body.startswith(_EXTENDED_XMP):
                start = len(_EXTENDED_XMP)
                (offset,) = struct.unpack_from(">I", body, start + 36)
                parts.setdefault(body[start : start + 32], []).append((offset, body[start + 40 :]))
    finally:
        found += (b"".join(part for _, part in sorted(pieces)) for pieces in parts.values())


def _strip_jpeg(view: memoryview, orientation: int) -> bytes:
    out = [b"\xff\xd8"]
    orientation_exif = _orientation_exif(orientation)
    for marker, segment in _segments(view):
        if marker == 0xE0 and bytes(segment[4:9]) == b"JFIF\0":
            if bytes(segment[16:18]) != b"\0\0":  # a thumbnail follows the header
                out.append(b"\xff\xe0\0\x10" + bytes(segment[4:16]) + b"\0\0")
            else:
                out.append(bytes(segment[:18]) if len(segment) == 18 else bytes(segment))
            continue
        if orientation_exif:
            out.append(b"\xff\xe1" + struct.pack(">H", len(orientation_exif) + 8) + b"Exif\0\0" + orientation_exif)
            orientation_exif = b""
        is_profile = marker == 0xE2 and bytes(segment[4:16]) == b"ICC_PROFILE\0"
        is_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not is_metadata or is_profile or marker == 0xEE:  # APP14 holds the colour transform
            out.append(bytes(segment))
    return b"".join([*out, b"\xff\xd9"])


# --- PNG ------------------------------------------------------------------------------------------------------------


def _png_chunks(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    offset = len(PNG_SIGNATURE)
    while offset + 12 <= len(view):
        length, kind = struct.unpack_from(">I4s", view, offset)
        yield kind, view[offset + 8 : offset + 8 + length]
        if kind == b"IEND":
            return
        offset += 12 + length


def _png_xmp(view: memoryview, found: list[bytes]) -> None:
    left = _MAX_XMP_BYTES  # for all chunks together: each of a thousand may decompress to as much
    for name, body in _png_chunks(view):
        if name in _PNG_TEXTS and left > 0:
            with contextlib.suppress(zlib.error, ValueError):
                text = _png_text(name, bytes(body), left)
                found.append(text)
                left -= len(text)


def _png_text(name: bytes, body: bytes, max_bytes: int) -> bytes:
    """The text of a chunk if it is XMP or compressed, else b"": other texts are found by searching the file itself."""
    keyword, _, rest = body.partition(b"\0")
    is_compressed = name == b"zTXt"
    if name == b"iTXt":
        is_compressed, rest = rest[:1] == b"\1", rest[1:]
    method, text = rest[:1], rest[1:]
    if name == b"iTXt":  # skip the language and the translated keyword
        text = text.partition(b"\0")[2].partition(b"\0")[2]
    elif name == b"tEXt":
        text = method + text
    is_profile = keyword.lower() in _RAW_PROFILES
    if not (is_compressed or is_profile or keyword == b"XML:com.adobe.xmp"):
        return b""
    if is_compressed:
        text = zlib.decompressobj().decompress(text, max_bytes)
    if is_profile:  # name, length, hex digits, as written by ImageMagick and older versions of ExifTool
        return bytes.fromhex(b"".join(text.split()[2:]).decode("ascii")).removeprefix(_XMP)
    return text[:max_bytes]


def _strip_png(view: memoryview, orientation: int) -> bytes:
    out = [PNG_SIGNATURE]
    orientation_exif = _orientation_exif(orientation)
    for kind, body in _png_chunks(view):
        if kind == b"IDAT" and orientation_exif:
            out.append(png_chunk(b"eXIf", orientation_exif))
            orientation_exif = b""
        if kind in _PNG_KEPT:
            out.append(png_chunk(kind, bytes(body)))
    return b"".join(out)


# --- WebP -----------------------------------------------------------------------------------------------------------


def _webp_chunks(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    (riff,) = struct.unpack_from("<I", view, 4)
    offset, end = 12, min(riff + 8, len(view))
    while offset + 8 <= end:
        kind, length = struct.unpack_from("<4sI", view, offset)
        yield kind, view[offset + 8 : offset + 8 + length]
        offset += 8 + length + (length & 1)


def _strip_webp(view: memoryview, orientation: int) -> bytes:
    chunks = [(kind, bytes(body)) for kind, body in _webp_chunks(view) if kind in _WEBP_KEPT]
    orientation_exif = _orientation_exif(orientation)
    if chunks and chunks[0][0] == b"VP8X":
        flags = chunks[0][1][0] & ~0x0C | (0x08 if orientation_exif else 0)
        chunks[0] = (b"VP8X", bytes([flags]) + chunks[0][1][1:])
        if orientation_exif:
            chunks.append((b"EXIF", orientation_exif))
    body = b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _orientation_exif(orientation: int) -> bytes:
    """An EXIF block with the orientation only; b"" if it is 1 (upright)."""
    if orientation == 1:
        return b""
    return b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0) + b"\0\0\0\0"
