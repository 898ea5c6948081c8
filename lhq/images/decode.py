"""Bytes → upright RGB pixels. They are read only after the header's size was judged against the cap."""

from __future__ import annotations

import io
import warnings

from PIL import Image

from lhq.errors import ImageError
from lhq.images.colour import to_srgb
from lhq.images.header import MAX_PIXELS, Header, inspect

# Pillow warns of odd metadata and of large pictures; sizes are judged here, by our own cap, before decoding.
warnings.filterwarnings("ignore", module=r"PIL\.")


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
        return _turn(to_srgb(image), header.orientation)
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
