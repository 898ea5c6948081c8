"""Image bytes → header facts: the check of every photo on arrival.

`inspect` ignores file names and Content-Type. It sniffs the format, parses size, colour model and EXIF orientation, and
walks the container to its end marker (EOI, IEND, RIFF length). It decodes no pixels, so it takes little longer than the
sha256. Only JPEG, PNG and WebP are accepted; other formats are named in the error.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass, field

from lhq.errors import ImageError
from lhq.images.containers import PARSERS, PNG_SIGNATURE, corrupt, exif_orientation

MAX_PIXELS = 200_000_000
"""Limit on width times height unless `[http] max_pixels` sets another."""
MAX_DECODER_BYTES = 400_000_000
"""Limit on a decoder's memory: a worker stays below 600 MB, including Python, Arrow and the file itself."""
FORMATS = ("jpeg", "png", "webp")

_ISO_BRANDS = {b"avif": "avif", b"avis": "avif", b"heic": "heic", b"heix": "heic", b"mif1": "heic", b"msf1": "heic"}
_SIGNATURES = [
    (b"\xff\xd8\xff", "jpeg"),
    (PNG_SIGNATURE, "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"\0\0\0\x0cjP  ", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
    (b"\xff\x0a", "jxl"),
    (b"\0\0\0\x0cJXL ", "jxl"),
    (b"8BPS", "psd"),
    (b"\0\0\1\0", "ico"),
    (b"qoif", "qoi"),
    (b"%PDF", "pdf"),
]
_MARKUP = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|body|\?xml|svg|!--)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Header:
    """An image's properties as its header states them.

    `width_px`, `height_px` are as stored, before applying the orientation; `orientation` is the EXIF value 1-8 (1 if
    missing or invalid); `mode` is the stored colour model by Pillow's name (`RGB`, `L`, `CMYK`, `P`, `LA`, `RGBA`, `1`,
    `I;16`, `RGB;16` …). `coding` is a key of `lhq.images.decoders`; `decoder_bytes` is the memory that the decoder
    needs besides the decoded image.
    """

    format: str
    width_px: int
    height_px: int
    orientation: int
    mode: str
    size_bytes: int
    sha256: str
    coding: str = field(default="", compare=False)
    decoder_bytes: int = field(default=0, compare=False)

    @property
    def upright_px(self) -> tuple[int, int]:
        """(width, height) as a viewer shows it, after applying the orientation."""
        if self.orientation >= 5:
            return self.height_px, self.width_px
        return self.width_px, self.height_px


_allowed = MAX_PIXELS


def set_max_pixels(max_pixels: int) -> None:
    """Set the process's limit on width times height (`[http] max_pixels`), on arrival and in all later stages."""
    global _allowed
    _allowed = max_pixels


def max_pixels_limit() -> int:
    """The process's limit on width times height."""
    return _allowed


def check_pixels(format: str, width_px: int, height_px: int, max_pixels: int = 0) -> None:
    """Check an image's size against the limit, or against the process's.

    Raises:
        ImageError: `too-many-pixels`.
    """
    limit = max_pixels or _allowed
    if width_px * height_px > limit:
        raise ImageError(
            f"{format} of {width_px} x {height_px} pixels, more than the cap of {limit:,}",
            hint="raise [http] max_pixels if such a picture is meant",
            reason="too-many-pixels",
        )


def sniff(data: bytes | bytearray | memoryview) -> str:
    """The format by its first bytes: `jpeg`, `png`, `webp`, another image format, `pdf`, `markup`, or "" if unknown."""
    head = bytes(data[:512])
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return _ISO_BRANDS.get(head[8:12], "")
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    return "markup" if _MARKUP.match(head) else ""


def inspect(data: bytes | bytearray | memoryview, *, max_pixels: int = 0, sha256: str = "") -> Header:
    """Parse an image's header and check that the file is complete to its end marker.

    Args:
        max_pixels: limit on width times height; 0: the process's limit (`set_max_pixels`).
        sha256: of the bytes, if known; it isn't computed again (0.5 s per GB).

    Raises:
        ImageError: `reason` is `empty`, `not-an-image`, `unsupported-type`, `animated`, `corrupt-header`,
            `truncated` (the end marker is missing), `too-many-pixels`, `too-many-scans` or `too-much-memory`.
    """
    view, max_pixels = memoryview(data), max_pixels or _allowed
    kind = sniff(view)
    if kind not in FORMATS:
        if not len(view):
            raise ImageError("0 bytes", hint="the server sent nothing", reason="empty")
        if kind in {"", "markup", "pdf"}:
            shown = {"markup": "markup (HTML, XML or SVG)", "pdf": "PDF"}.get(kind, bytes(view[:8]).hex(" "))
            raise ImageError(f"not a picture: {shown}", hint="only JPEG, PNG and WebP are kept", reason="not-an-image")
        raise ImageError(f"a {kind} picture", hint="only JPEG, PNG and WebP are kept", reason="unsupported-type")
    try:
        structure = PARSERS[kind](view)
        orientation = exif_orientation(structure.exif) if structure.exif else 1
    except (struct.error, IndexError):
        raise ImageError(f"{kind} ends within its header", hint="fetch it again", reason="truncated") from None
    width, height = structure.width_px, structure.height_px
    if width <= 0 or height <= 0:
        raise corrupt(kind, f"size {width} x {height}")
    check_pixels(kind, width, height, max_pixels)
    if structure.decoder_bytes > MAX_DECODER_BYTES:
        raise ImageError(
            f"{structure.coding} {kind} of {width} x {height} pixels: decoding it takes "
            f"{structure.decoder_bytes / 1e6:.0f} MB, "
            f"more than the {MAX_DECODER_BYTES / 1e6:.0f} MB that one picture may take",
            hint="store it as a baseline JPEG or a PNG that is not interlaced",
            reason="too-much-memory",
        )
    return Header(
        kind,
        width,
        height,
        orientation,
        structure.mode,
        len(view),
        sha256 or hashlib.sha256(view).hexdigest(),
        structure.coding,
        structure.decoder_bytes,
    )
