"""Bytes → header facts at the door, and upright RGB pixels behind it.

The door check (`inspect`) believes no name and no Content-Type: it sniffs the type, parses the header for true
size, colour and EXIF orientation, and follows the file's structure to its end marker (EOI, IEND, RIFF length).
No pixel is decoded, so it costs little more than the sha256. Pixels (`decode`) are read only after the header's
size was judged against the bomb cap. JPEG, PNG and WebP are pictures here; other types are named and refused.
"""

from __future__ import annotations

import functools
import hashlib
import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, ImageCms

from lhq.errors import ImageError

# Pillow warns of odd metadata and of large pictures; sizes are judged here, by our own cap, before decoding.
warnings.filterwarnings("ignore", module=r"PIL\.")

MAX_PIXELS = 200_000_000
FORMATS = ("jpeg", "png", "webp")

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SOF = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_MAX_JUNK = 64 * 1024
_ISO_BRANDS = {b"avif": "avif", b"avis": "avif", b"heic": "heic", b"heix": "heic", b"mif1": "heic", b"msf1": "heic"}
_SIGNS = [
    (b"\xff\xd8\xff", "jpeg"),
    (_PNG_SIGNATURE, "png"),
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
    `LA`, `RGBA`, `1`, `I;16`, `RGB;16` …).
    """

    format: str
    width_px: int
    height_px: int
    orientation: int
    mode: str
    size_bytes: int
    sha256: str

    @property
    def upright_px(self) -> tuple[int, int]:
        """(width, height) as a viewer shows it, after the EXIF turn."""
        if self.orientation >= 5:
            return self.height_px, self.width_px
        return self.width_px, self.height_px


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


def inspect(data: bytes | bytearray | memoryview, *, max_pixels: int = MAX_PIXELS, sha256: str = "") -> Header:
    """Header facts of one photo's bytes, whole to the end marker.

    Args:
        sha256: the bytes' hash where it is known; then it is not computed again (half a second a gigabyte).

    Raises:
        ImageError: `reason` is `empty`, `not-an-image`, `unsupported-type`, `animated`, `corrupt-header`,
            `truncated` (the end marker is missing) or `too-many-pixels`.
    """
    view = memoryview(data)
    kind = sniff(view)
    if kind not in FORMATS:
        if not len(view):
            raise ImageError("0 bytes", hint="the server sent nothing", reason="empty")
        if kind in {"", "markup", "pdf"}:
            shown = {"markup": "markup (HTML, XML or SVG)", "pdf": "PDF"}.get(kind, bytes(view[:8]).hex(" "))
            raise ImageError(f"not a picture: {shown}", hint="only JPEG, PNG and WebP are kept", reason="not-an-image")
        raise ImageError(f"a {kind} picture", hint="only JPEG, PNG and WebP are kept", reason="unsupported-type")
    try:
        width, height, mode, exif = _PARSERS[kind](view)
        orientation = _orientation(exif) if exif else 1
    except (struct.error, IndexError):
        raise ImageError(f"{kind} ends within its header", hint="fetch it again", reason="truncated") from None
    if width <= 0 or height <= 0:
        raise _corrupt(kind, f"size {width} x {height}")
    if width * height > max_pixels:
        raise ImageError(
            f"{kind} of {width} x {height} pixels, more than the cap of {max_pixels:,}",
            hint="raise [http] max_pixels if such a picture is meant",
            reason="too-many-pixels",
        )
    return Header(kind, width, height, orientation, mode, len(view), sha256 or hashlib.sha256(view).hexdigest())


def decode(
    data: bytes | bytearray | memoryview,
    *,
    max_pixels: int = MAX_PIXELS,
    short_side_px: int | None = None,
    header: Header | None = None,
) -> Image.Image:
    """The picture: 8-bit sRGB (mode `RGB`), turned upright, alpha laid over white.

    Args:
        short_side_px: the caller needs no more than this on the short side; a JPEG is then decoded at 1/2, 1/4
            or 1/8 where its short side stays at least twice that (several times quicker, no aliasing).
        header: what `inspect` found in these bytes, where it was asked already.

    Raises:
        ImageError: as `inspect`, or `corrupt` where the pixels can't be decoded.
    """
    header = header or inspect(data, max_pixels=max_pixels)
    try:
        image = Image.open(io.BytesIO(data), formats=[header.format.upper()])
        if short_side_px is not None and header.format == "jpeg":
            scale = min(image.size) / (2 * short_side_px)
            if scale >= 2:
                image.draft(None, (int(image.width / scale), int(image.height / scale)))
        image.load()
        return _turn(_to_srgb(image), header.orientation)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # decoders of hostile bytes raise a dozen kinds (SyntaxError, struct.error, …)
        raise ImageError(
            f"{header.format} can't be decoded ({type(error).__name__}: {error})",
            hint="fetch it again: lhq crawl --retry-failed corrupt",
            reason="corrupt",
        ) from error


def resize(image: Image.Image, short_side_px: int) -> Image.Image:
    """`image` with its short side at `short_side_px`, proportions kept, Lanczos; the same object if already so."""
    width, height = image.size
    scale = short_side_px / min(width, height)
    size = (max(short_side_px, round(width * scale)), max(short_side_px, round(height * scale)))
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def centre_crop(image: Image.Image, width_px: int, height_px: int) -> Image.Image:
    """The middle `width_px` x `height_px` of `image`.

    Raises:
        ValueError: the image is smaller than that.
    """
    if image.width < width_px or image.height < height_px:
        raise ValueError(f"can't crop {width_px} x {height_px} from {image.width} x {image.height}")
    left, top = (image.width - width_px) // 2, (image.height - height_px) // 2
    return image.crop((left, top, left + width_px, top + height_px))


def _corrupt(kind: str, what: str) -> ImageError:
    return ImageError(f"{kind} header: {what}", hint="fetch it again", reason="corrupt-header")


def _truncated(kind: str, marker: str) -> ImageError:
    return ImageError(f"{kind} has no {marker}: the end is missing", hint="fetch it again", reason="truncated")


# --- one parser a type: view → (width, height, mode, EXIF block or None) ----------------------------------------

Parsed = tuple[int, int, str, memoryview | None]


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
                raise _corrupt("jpeg", f"no marker at byte {at}")
            at += junk
        while view[at + 1] == 0xFF:
            at += 1
        marker = view[at + 1]
        if marker == 0xD9:
            raise _corrupt("jpeg", "no scan before EOI")
        if marker <= 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", view, at + 2)
        if length < 2:
            raise _corrupt("jpeg", f"segment of length {length} at byte {at}")
        if marker in _SOF:
            bits, height, width, parts = struct.unpack_from(">BHHB", view, at + 4)
            mode = {1: "L", 3: "RGB", 4: "CMYK"}.get(parts)
            if mode is None or bits not in {8, 12, 16}:
                raise _corrupt("jpeg", f"{parts} components of {bits} bits")
            size = (width, height, mode if bits == 8 else f"{mode};{bits}")
        elif marker == 0xE1 and exif is None and bytes(view[at + 4 : at + 10]) == b"Exif\0\0":
            exif = view[at + 10 : at + 2 + length]
        at += 2 + length
        if marker == 0xDA:
            break
    if size is None:
        raise _corrupt("jpeg", "no frame header before the scan")
    # The marker of a whole file is in its last bytes; trailing bytes (a second MPO frame) are rare.
    if bytes(view[max(at, len(view) - 64) :]).rfind(b"\xff\xd9") < 0 and bytes(view[at:]).rfind(b"\xff\xd9") < 0:
        raise _truncated("jpeg", "EOI marker")
    return *size, exif


def _png(view: memoryview) -> Parsed:
    """Source: W3C PNG, third edition, 5 and 11."""
    chunks = _png_chunks(view)
    kind, body = next(chunks)
    if kind != b"IHDR" or len(body) != 13:
        raise _corrupt("png", "does not start with IHDR")
    width, height, bits, colour, deflate, filters, interlace = struct.unpack(">IIBBBBB", body)
    allowed = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.get(colour, ())
    if bits not in allowed or deflate or filters or interlace > 1:
        raise _corrupt("png", f"colour type {colour}, {bits} bits, methods {deflate}/{filters}/{interlace}")
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
        raise _corrupt("png", "no IDAT")
    return width, height, mode, exif


def _png_chunks(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    at = len(_PNG_SIGNATURE)
    while True:
        if at + 12 > len(view):
            raise _truncated("png", "IEND chunk")
        length, kind = struct.unpack_from(">I4s", view, at)
        end = at + 12 + length
        if end > len(view):
            raise _truncated("png", "IEND chunk")
        (crc,) = struct.unpack_from(">I", view, end - 4)
        # Bit 5 of the first letter: ancillary chunks may be wrong without harm to the picture.
        if not kind[0] & 0x20 and zlib.crc32(view[at + 4 : end - 4]) != crc:
            raise _corrupt("png", f"checksum of {kind.decode('latin-1')!r} is wrong")
        if kind == b"IEND":
            return
        yield kind, view[at + 8 : end - 4]
        at = end


def _webp(view: memoryview) -> Parsed:
    """Source: RFC 9649."""
    (riff,) = struct.unpack_from("<I", view, 4)
    if riff + 8 > len(view):
        raise _truncated("webp", f"byte {riff + 8:,} that its RIFF header promises")
    size: tuple[int, int, str] | None = None
    exif, at, has_picture = None, 12, False
    while at + 8 <= riff + 8:
        kind, length = struct.unpack_from("<4sI", view, at)
        body = view[at + 8 : at + 8 + length]
        if at + 8 + length > riff + 8:
            raise _truncated("webp", f"end of its {kind.decode('latin-1')!r} chunk")
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
                raise _corrupt("webp", "no key frame")
            width, height = struct.unpack_from("<HH", body, 6)
            size = size or (width & 0x3FFF, height & 0x3FFF, "RGB")
            has_picture = True
        elif kind == b"VP8L":
            if body[0] != 0x2F:
                raise _corrupt("webp", "no lossless signature")
            (bits,) = struct.unpack_from("<I", body, 1)
            size = size or (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), "RGBA" if bits >> 28 & 1 else "RGB")
            has_picture = True
        elif kind == b"EXIF":
            exif = body[6:] if bytes(body[:6]) == b"Exif\0\0" else body
        at += 8 + length + (length & 1)
    if size is None or not has_picture:
        raise _corrupt("webp", "no picture chunk")
    return *size, exif


_PARSERS = {"jpeg": _jpeg, "png": _png, "webp": _webp}


def _orientation(exif: memoryview) -> int:
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


# --- pixels -----------------------------------------------------------------------------------------------------

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_srgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; an embedded profile other than sRGB is applied (Adobe RGB and Display P3 are common on Flickr)."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        # 16-bit grey: Pillow's own conversion clips instead of scaling.
        image = image.point(lambda value: value / 257).convert("L") if image.mode != "F" else image.convert("L")
    if image.mode in {"P", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(ground, image).convert("RGB")
    if profile and image.mode in {"RGB", "CMYK", "L"}:
        transform = _transform(bytes(profile), image.mode)
        if transform is not None:
            return ImageCms.applyTransform(image, transform) or image
    return image if image.mode == "RGB" else image.convert("RGB")


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Profile → sRGB; None where it is sRGB already, or too broken to use (browsers ignore such too)."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(opened).lower():
            return None
        return ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
