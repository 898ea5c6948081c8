"""A file's metadata: its XMP read, or all of it left out without touching a pixel.

What stays is what the picture needs to look right: its colour profile and, where it is turned, its orientation. What
goes is where, when, by whom and with what it was taken, and every thumbnail of an earlier state of the picture.
"""

from __future__ import annotations

import contextlib
import re
import struct
import zlib
from collections.abc import Iterator

from lhq.images.containers import PNG_SIGNATURE
from lhq.images.header import Header, sniff

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_MORE = b"http://ns.adobe.com/xmp/extension/\0"
_MAX_XMP_BYTES = 16 * 2**20
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
# Frames of a JPEG whose pixels may come in one scan, and what else stands among the markers of frames: DHT, JPG, DAC.
_SEQUENTIAL = frozenset({0xC0, 0xC1})
_TABLES = frozenset({0xC4, 0xC8, 0xCC})
# Chunks that say how pixels look; all other ancillary ones are somebody's words.
_PNG_STAYS = frozenset(
    {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV"}
    | {b"cLLI", b"bKGD", b"pHYs", b"hIST"}
)
_PNG_TEXTS = frozenset({b"iTXt", b"zTXt", b"tEXt"})
_RAW_PROFILES = frozenset({b"raw profile type xmp", b"raw profile type app1"})
_WEBP_STAYS = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ICCP"})


def xmp(data: bytes | bytearray) -> list[bytes]:
    """The XMP packets of a JPEG, PNG or WebP, extended ones put together, and what a PNG holds as compressed text; what
    is broken is passed over.
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


def beside_pixels(data: bytes | bytearray) -> bytes | bytearray:
    """The part of a file that may hold somebody's words.

    Of a sequential JPEG that ends with its scan, what comes before that scan: entropy-coded pixels are most of a
    photograph, and to search them costs as much as to hash them. Of any other file, all of it; so too where a second
    picture or more scans follow.
    """
    view = memoryview(data)
    if sniff(view) != "jpeg" or bytes(view[-2:]) != b"\xff\xd9":
        return data
    num_bytes, num_parts = 2, 0
    try:
        for marker, segment in _segments(view):
            if marker == 0xDA:
                is_first = (
                    bytes(view[num_bytes : num_bytes + 2]) == b"\xff\xda"
                )  # and nothing stood between the segments
                return data[:num_bytes] if is_first and segment[4] == num_parts else data
            if marker in _SEQUENTIAL:
                num_parts = segment[9]
            elif (0xC0 <= marker <= 0xCF and marker not in _TABLES) or bytes(segment[4:8]) == b"MPF\0":
                return data
            num_bytes += len(segment)
    except (IndexError, struct.error):
        pass
    return data


def without_metadata(data: bytes | bytearray, header: Header) -> bytes:
    """The same picture, its coded pixels byte for byte, without EXIF, XMP, IPTC, comments and thumbnails.

    Args:
        data: a whole JPEG, PNG or WebP, as `inspect` found it (`header`).
    """
    view = memoryview(data)
    if header.format == "jpeg":
        return _jpeg_bare(view, header.orientation)
    return (_png_bare if header.format == "png" else _webp_bare)(view, header.orientation)


# --- JPEG -----------------------------------------------------------------------------------------------------------


def _segments(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(marker, segment) in their order, entropy-coded data as marker 0, up to the end of the first picture."""
    at = 2
    while at + 2 <= len(view):
        if view[at] != 0xFF or view[at + 1] == 0xFF:
            at += 1
            continue
        marker = view[at + 1]
        if marker == 0xD9:
            return
        if marker <= 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", view, at + 2)
        end = at + 2 + length
        yield marker, view[at:end]
        at = end
        if marker == 0xDA:
            end = _end_of_scan(view, at)
            yield 0, view[at:end]
            at = end


def _end_of_scan(view: memoryview, at: int) -> int:
    """Where the next marker stands that is neither stuffing nor a restart."""
    found = _MARKER.search(view, at)
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
            elif marker == 0xE1 and body.startswith(_XMP_MORE):
                start = len(_XMP_MORE)
                (offset,) = struct.unpack_from(">I", body, start + 36)
                parts.setdefault(body[start : start + 32], []).append((offset, body[start + 40 :]))
    finally:
        found += (b"".join(part for _, part in sorted(pieces)) for pieces in parts.values())


def _jpeg_bare(view: memoryview, orientation: int) -> bytes:
    out = [b"\xff\xd8"]
    turned = _exif(orientation)
    for marker, segment in _segments(view):
        if marker == 0xE0 and bytes(segment[4:9]) == b"JFIF\0":
            if bytes(segment[16:18]) != b"\0\0":  # a thumbnail follows the header
                out.append(b"\xff\xe0\0\x10" + bytes(segment[4:16]) + b"\0\0")
            else:
                out.append(bytes(segment[:18]) if len(segment) == 18 else bytes(segment))
            continue
        if turned:
            out.append(b"\xff\xe1" + struct.pack(">H", len(turned) + 8) + b"Exif\0\0" + turned)
            turned = b""
        is_profile = marker == 0xE2 and bytes(segment[4:16]) == b"ICC_PROFILE\0"
        is_somebodys_word = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not is_somebodys_word or is_profile or marker == 0xEE:  # APP14 says how colours are coded
            out.append(bytes(segment))
    return b"".join([*out, b"\xff\xd9"])


# --- PNG ------------------------------------------------------------------------------------------------------------


def _png_chunks(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    at = len(PNG_SIGNATURE)
    while at + 12 <= len(view):
        length, kind = struct.unpack_from(">I4s", view, at)
        yield kind, view[at + 8 : at + 8 + length]
        if kind == b"IEND":
            return
        at += 12 + length


def _png_xmp(view: memoryview, found: list[bytes]) -> None:
    left = _MAX_XMP_BYTES  # of all chunks together: a thousand of them may each unpack to as much
    for name, body in _png_chunks(view):
        if name in _PNG_TEXTS and left > 0:
            with contextlib.suppress(zlib.error, ValueError):
                text = _png_text(name, bytes(body), left)
                found.append(text)
                left -= len(text)


def _png_text(name: bytes, body: bytes, most_bytes: int) -> bytes:
    """The text of a chunk that holds XMP or is compressed; b"" for any other, whose words stand in the file."""
    keyword, _, rest = body.partition(b"\0")
    is_packed = name == b"zTXt"
    if name == b"iTXt":
        is_packed, rest = rest[:1] == b"\1", rest[1:]
    method, text = rest[:1], rest[1:]
    if name == b"iTXt":  # its language and its keyword in that language come first
        text = text.partition(b"\0")[2].partition(b"\0")[2]
    elif name == b"tEXt":
        text = method + text
    is_profile = keyword.lower() in _RAW_PROFILES
    if not (is_packed or is_profile or keyword == b"XML:com.adobe.xmp"):
        return b""
    if is_packed:
        text = zlib.decompressobj().decompress(text, most_bytes)
    if is_profile:  # in hex digits, after its name and length; ImageMagick and older versions of ExifTool write it
        return bytes.fromhex(b"".join(text.split()[2:]).decode("ascii")).removeprefix(_XMP)
    return text[:most_bytes]


def _png_bare(view: memoryview, orientation: int) -> bytes:
    out = [PNG_SIGNATURE]
    turned = _exif(orientation)
    for kind, body in _png_chunks(view):
        if kind == b"IDAT" and turned:
            out.append(_png_chunk(b"eXIf", turned))
            turned = b""
        if kind in _PNG_STAYS:
            out.append(_png_chunk(kind, bytes(body)))
    return b"".join(out)


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


# --- WebP -----------------------------------------------------------------------------------------------------------


def _webp_chunks(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    (riff,) = struct.unpack_from("<I", view, 4)
    at, end = 12, min(riff + 8, len(view))
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", view, at)
        yield kind, view[at + 8 : at + 8 + length]
        at += 8 + length + (length & 1)


def _webp_bare(view: memoryview, orientation: int) -> bytes:
    chunks = [(kind, bytes(body)) for kind, body in _webp_chunks(view) if kind in _WEBP_STAYS]
    turned = _exif(orientation)
    if chunks and chunks[0][0] == b"VP8X":
        flags = chunks[0][1][0] & ~0x0C | (0x08 if turned else 0)
        chunks[0] = (b"VP8X", bytes([flags]) + chunks[0][1][1:])
        if turned:
            chunks.append((b"EXIF", turned))
    body = b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _exif(orientation: int) -> bytes:
    """An EXIF block that says how the picture is turned and nothing else; b"" for an upright one."""
    if orientation == 1:
        return b""
    return b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0) + b"\0\0\0\0"
