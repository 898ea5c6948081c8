"""Bytes → facts from the header, checked on arrival.

The check ignores names and Content-Type: it sniffs the type, parses the header for true size, colour and
EXIF orientation, and follows the file's structure to its end marker (EOI, IEND, RIFF length). No pixel is decoded, so
it costs little more than the sha256. JPEG, PNG and WebP are pictures here; other types are named and refused.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass, field

from lhq.errors import ImageError
from lhq.images.containers import PARSERS, PNG_SIGNATURE, corrupt, orientation_of

MAX_PIXELS = 200_000_000
"""The cap on width times height where no `[http] max_pixels` says otherwise."""
MAX_HELD_BYTES = 400_000_000
"""What a decoder may hold of one picture: a worker stays below 600 MB with Python, Arrow and the file itself."""
FORMATS = ("jpeg", "png", "webp")

_ISO_BRANDS = {b"avif": "avif", b"avis": "avif", b"heic": "heic", b"heix": "heic", b"mif1": "heic", b"msf1": "heic"}
_SIGNS = [
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
    """What the bytes say about themselves.

    `width_px`, `height_px` are as stored, before the EXIF turn; `orientation` is the EXIF value 1-8 (1 where
    there is none or it is nonsense); `mode` is the stored colour in Pillow's words (`RGB`, `L`, `CMYK`, `P`,
    `LA`, `RGBA`, `1`, `I;16`, `RGB;16` …). `coding` says how the pixels are stored, by which
    `lhq.images.decoders` chooses who may read them, and `held_bytes` what its decoder must hold besides the picture.
    """

    format: str
    width_px: int
    height_px: int
    orientation: int
    mode: str
    size_bytes: int
    sha256: str
    coding: str = field(default="", compare=False)
    held_bytes: int = field(default=0, compare=False)

    @property
    def upright_px(self) -> tuple[int, int]:
        """(width, height) as a viewer shows it, after the EXIF turn."""
        if self.orientation >= 5:
            return self.height_px, self.width_px
        return self.width_px, self.height_px


_allowed = MAX_PIXELS


def allow(max_pixels: int) -> None:
    """Set this process's cap: what `[http] max_pixels` says applies to every later stage as it does on arrival."""
    global _allowed
    _allowed = max_pixels


def allowed() -> int:
    """This process's cap on width times height."""
    return _allowed


def sniff(data: bytes | bytearray | memoryview) -> str:
    """The type that the first bytes show: `jpeg`, `png`, `webp`, another picture type, `markup`, or ``."""
    head = bytes(data[:512])
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return _ISO_BRANDS.get(head[8:12], "")
    for sign, name in _SIGNS:
        if head.startswith(sign):
            return name
    return "markup" if _MARKUP.match(head) else ""


def inspect(data: bytes | bytearray | memoryview, *, max_pixels: int = 0, sha256: str = "") -> Header:
    """Header facts of one photo's bytes, whole to the end marker.

    Args:
        max_pixels: the cap on width times height; 0: this process's (`allow`).
        sha256: the bytes' hash where it is known; then it is not computed again (half a second a gigabyte).

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
        found = PARSERS[kind](view)
        orientation = orientation_of(found.exif) if found.exif else 1
    except (struct.error, IndexError):
        raise ImageError(f"{kind} ends within its header", hint="fetch it again", reason="truncated") from None
    width, height = found.width_px, found.height_px
    if width <= 0 or height <= 0:
        raise corrupt(kind, f"size {width} x {height}")
    if width * height > max_pixels:
        raise ImageError(
            f"{kind} of {width} x {height} pixels, more than the cap of {max_pixels:,}",
            hint="raise [http] max_pixels if such a picture is meant",
            reason="too-many-pixels",
        )
    if found.held_bytes > MAX_HELD_BYTES:
        raise ImageError(
            f"{found.coding} {kind} of {width} x {height} pixels: decoding it takes {found.held_bytes / 1e6:.0f} MB, "
            f"more than the {MAX_HELD_BYTES / 1e6:.0f} MB that one picture may take",
            hint="store it as a baseline JPEG or a PNG that is not interlaced",
            reason="too-much-memory",
        )
    return Header(
        kind,
        width,
        height,
        orientation,
        found.mode,
        len(view),
        sha256 or hashlib.sha256(view).hexdigest(),
        found.coding,
        found.held_bytes,
    )
