"""Image bytes → upright RGB pixels, no larger than the caller needs.

The header's size is checked against the limit first. `lhq.images.decoders` says which decoders may read the file's
coding. Pixels are converted to sRGB strip by strip, so that decoding 200 megapixels needs little more memory than the
decoder itself.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from lhq.errors import ImageError
from lhq.images.colour import ColourSpace, jpeg_profile, png_colour_space, to_srgb
from lhq.images.containers import png_colour_chunks, png_of_pixels
from lhq.images.decoders import DECODER_SUPPORT
from lhq.images.header import MAX_DECODER_BYTES, Header, check_pixels, inspect
from lhq.images.png_rows import interlaced_strips, png_strips

# Pillow warns about odd metadata and large images; `inspect` has already checked the size against our own limit.
warnings.filterwarnings("ignore", module=r"PIL\.")

_STRIP_PX = 2**20
_SMALL_PNG_PX = 2**20  # up to here Pillow decodes a PNG at once, a tenth faster than by rows
_MAX_REDUCTION = 8
_MAX_BYTES_WITH_FILE = 540_000_000
_BYTES_PER_PIXEL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}  # of Pillow's modes; the others take 4


def decode(
    data: bytes | bytearray | memoryview,
    *,
    max_pixels: int = 0,
    short_side_px: int | None = None,
    header: Header | None = None,
    is_upright: bool = True,
) -> Image.Image:
    """Decode an image to 8-bit sRGB (mode `RGB`), upright, with transparency composited over white.

    Args:
        max_pixels: limit on width times height; 0: the process's limit (`lhq.images.set_max_pixels`).
        short_side_px: the caller needs at most this many pixels on the short side. If the short side stays at least
            twice that, the image is decoded at 1/2, 1/4 or 1/8 (JPEG, several times faster) or averaged over up to
            8 x 8 pixels.
        header: the result of `inspect` on the same bytes, if the caller has it.
        is_upright: False skips the EXIF orientation, for callers that shrink the image before rotating it.

    Raises:
        MemoryError: there is none for the decoder.
        ImageError: as `inspect`; `corrupt` if the pixels can't be decoded; `too-much-memory` if `short_side_px` is
            given and decoding would still take more than `MAX_DECODER_BYTES`.
    """
    if header is None or not header.coding:
        header = inspect(data, max_pixels=max_pixels)
    try:
        image = _decode(data, header, short_side_px, header.orientation if is_upright else 1)
        return apply_orientation(image, header.orientation) if is_upright else image
    except (MemoryError, RecursionError, ImageError):
        raise
    except Exception as error:  # on hostile bytes, decoders raise a dozen types (SyntaxError, struct.error, …)
        # A decoder that found no memory says "broken data"; this says MemoryError.
        np.empty(header.decoder_bytes, np.uint8)
        raise ImageError(
            f"{header.format} can't be decoded ({type(error).__name__}: {error})",
            hint="fetch it again: lhq crawl --retry-failed corrupt",
            reason="corrupt",
        ) from error


def decode_opened(opened: ImageFile.ImageFile, file_bytes: int, short_side_px: int) -> Image.Image:
    """Decode a picture of a format that datasets don't hold (GIF, BMP, TIFF …), as Pillow opened it: sRGB, upright.

    Reduced as in `decode`, after Pillow has decoded the whole.

    Args:
        file_bytes: the size of the file, which the caller holds in memory. Files of these formats may be as large as
            their pixels.

    Raises:
        ImageError: `too-many-pixels`: for the limit; `unsupported-type`: 32-bit values (TIFF) of which it is not known
            what is white; `too-much-memory`: with the file it takes more than 540 MB.
        Exception: what Pillow raises for a file that is damaged.
    """
    kind, (width, height) = (opened.format or "picture").lower(), opened.size
    check_pixels(kind, width, height)
    orientation = opened.getexif().get(ExifTags.Base.Orientation, 1)
    turns_whole = kind == "tiff" and orientation != 1  # Pillow turns a TIFF itself, after decoding it
    whole_bytes = width * height * _BYTES_PER_PIXEL.get(opened.mode, 4) * (2 if turns_whole else 1)
    reduction = max(1, min(_MAX_REDUCTION, min(opened.size) // (2 * short_side_px)))
    out_bytes = 4 * width * height // reduction**2 * (1 if turns_whole or orientation == 1 else 2)
    needed = file_bytes + whole_bytes + _tiff_block_bytes(opened) + out_bytes
    _check_bytes(kind, opened.size, needed, _MAX_BYTES_WITH_FILE)
    if isinstance(opened, TiffImagePlugin.TiffImageFile):  # its plugin would go by Pillow's own limit on pixels
        opened.im = Image.new(opened.mode, opened._tile_size).im
    opened.load()
    _check_has_white(kind, opened)
    space = ColourSpace(opened.info.get("icc_profile") or b"")
    image = _assemble_strips(_crop_strips(opened, reduction), opened.size, reduction, opened, space)
    return image if turns_whole else apply_orientation(image, orientation)


def _check_has_white(kind: str, decoded: Image.Image) -> None:
    """Refuse values of 32 bits, unless they are 16-bit greys in a wider type, as Pillow and others write them.

    Pillow holds a PGM of 16 bits so too, scaled to its own white.
    """
    if decoded.mode not in {"F", "I"} or (kind, decoded.mode) == ("ppm", "I"):
        return
    extrema: tuple[float, float] = decoded.getextrema()  # type: ignore[assignment]  # of one channel
    lowest, highest = extrema
    if decoded.mode == "F" or not (lowest >= 0 and 255 < highest <= 65_535):
        raise ImageError(
            f"{kind} with values from {lowest} to {highest}: which value is white is not known",
            hint="store it with 8 or 16 bits",
            reason="unsupported-type",
        )


def _tiff_block_bytes(opened: Image.Image) -> int:
    """Bytes of the strip or tile that libtiff decodes at once; 0 for what is read by Pillow itself."""
    if not isinstance(opened, TiffImagePlugin.TiffImageFile) or not any(tile[0] == "libtiff" for tile in opened.tile):
        return 0
    tags = opened.tag_v2
    width = tags.get(TiffImagePlugin.TILEWIDTH, opened.width)
    rows = tags.get(TiffImagePlugin.TILELENGTH, min(opened.height, tags.get(TiffImagePlugin.ROWSPERSTRIP, 2**32 - 1)))
    bits = max(32, sum(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))))  # JPEGs in TIFF are decoded to 32
    return int(width * rows * bits // 8)


def _decode(
    data: bytes | bytearray | memoryview, header: Header, short_side_px: int | None, orientation: int
) -> Image.Image:
    """Decode to sRGB in stored orientation, reduced. Uses Pillow's plugins directly: `Image.open` has its own limit."""
    support = DECODER_SUPPORT[header.format, header.coding]
    size, reduction = (header.width_px, header.height_px), 1
    if header.format == "jpeg":
        opened = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
        image: Image.Image = opened
        if short_side_px is not None and support.scales_in_decoder:
            scale = min(image.size) / (2 * short_side_px)
            if scale >= 2:
                image.draft(None, (int(image.width / scale), int(image.height / scale)))
            size = image.size
    if short_side_px is not None:
        if not support.scales_in_decoder:
            reduction = max(1, min(_MAX_REDUCTION, min(size) // (2 * short_side_px)))
        _check_memory(header, size, reduction, orientation)
    if header.format == "jpeg":
        image.load()
        space = ColourSpace(jpeg_profile(body for name, body in opened.applist if name == "APP2"))
        return _assemble_strips(_crop_strips(image, reduction), image.size, reduction, image, space)
    if header.format == "webp":
        image = _webp(data)
        return _assemble_strips(
            _crop_strips(image, reduction),
            image.size,
            reduction,
            image,
            ColourSpace(image.info.get("icc_profile") or b""),
        )
    return _png(data, header, reduction)


def _png(data: bytes | bytearray | memoryview, header: Header, reduction: int) -> Image.Image:
    view, size = memoryview(data), (header.width_px, header.height_px)
    chunks = png_colour_chunks(view)
    space = png_colour_space(chunks)
    is_16_bit, by_rows = (
        header.mode in {"RGB;16", "RGBA;16", "LA;16"},
        DECODER_SUPPORT["png", header.coding].reads_by_rows,
    )
    if is_16_bit or (by_rows and size[0] * size[1] > _SMALL_PNG_PX):
        read = png_strips if by_rows else interlaced_strips
        return _assemble_strips(
            read(view, chunks, space, _rows_per_strip(size[0], reduction)), size, reduction, None, space
        )
    image = PngImagePlugin.PngImageFile(io.BytesIO(png_of_pixels(view, chunks)))
    image.load()
    if image.size != size:
        raise ValueError(f"it is {image.size[0]} x {image.size[1]}, not {size[0]} x {size[1]}")
    return _assemble_strips(_crop_strips(image, reduction), size, reduction, image, space)


def _webp(data: bytes | bytearray | memoryview) -> Image.Image:
    """Decode by the plugin's decoder and free that before using the pixels: it holds two more copies of the image."""
    opened = WebPImagePlugin.WebPImageFile(io.BytesIO(data))
    frame = opened._decoder.get_next()
    opened._decoder = None
    if frame is None:
        raise ValueError("its frame can't be decoded")
    mode = "RGBA" if opened.rawmode == "RGBA" else "RGBX"
    image = Image.frombuffer(mode, opened.size, frame[0], "raw", mode, 0, 1)
    image.info.update({name: value for name, value in opened.info.items() if name == "icc_profile"})
    return image


def _check_memory(header: Header, size: tuple[int, int], reduction: int, orientation: int) -> None:
    pixels = 4 * size[0] * size[1] // reduction**2
    _check_bytes(
        header.format,
        (header.width_px, header.height_px),
        header.decoder_bytes + pixels * (1 if orientation == 1 else 2),
    )


def _check_bytes(kind: str, size: tuple[int, int], needed: int, limit: int = MAX_DECODER_BYTES) -> None:
    if needed > limit:
        raise ImageError(
            f"{kind} of {size[0]} x {size[1]} pixels: {needed / 1e6:.0f} MB at the scale "
            f"that is needed, more than the {limit / 1e6:.0f} MB that one picture may take",
            hint="drop it: [filter.size] max_aspect leaves out strips",
            reason="too-much-memory",
        )


def _rows_per_strip(width: int, reduction: int) -> int:
    return max(1, _STRIP_PX // (width * reduction)) * reduction


def _crop_strips(image: Image.Image, reduction: int) -> Iterator[Image.Image]:
    """Yield a decoded image in strips, from top to bottom."""
    rows = _rows_per_strip(image.width, reduction)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        strip.info = image.info
        yield strip


def _assemble_strips(
    parts: Iterator[Image.Image],
    size: tuple[int, int],
    reduction: int,
    whole: Image.Image | None,
    space: ColourSpace,
) -> Image.Image:
    """Join strips to an image in sRGB, averaged over `reduction` x `reduction` pixels.

    Args:
        whole: the decoded image, if there is one; returned as it is if it needs no conversion.
    """
    if whole is not None and reduction == 1:
        if whole.mode == "RGB" and not space.profile and not space.transparent_colour:
            return whole
        if size[0] * size[1] <= _STRIP_PX:
            return to_srgb(whole, space)
    out = Image.new("RGB", (-(-size[0] // reduction), -(-size[1] // reduction)))
    top = 0
    for part in parts:
        rgb = to_srgb(part, space)
        rgb = rgb.reduce(reduction) if reduction > 1 else rgb
        out.paste(rgb, (0, top))
        top += rgb.height
    return out


def resize(image: Image.Image, short_side_px: int) -> Image.Image:
    """Resize by Lanczos to a short side of `short_side_px`, keeping proportions; `image` itself if it has that size."""
    width, height = image.size
    scale = short_side_px / min(width, height)
    size = (max(short_side_px, round(width * scale)), max(short_side_px, round(height * scale)))
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def apply_orientation(image: Image.Image, orientation: int) -> Image.Image:
    """Rotate or flip an image as stored so that it is upright, by its EXIF orientation 1-8."""
    transpose = _TRANSPOSES.get(orientation)
    return image if transpose is None else image.transpose(transpose)
