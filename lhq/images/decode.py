"""Bytes → upright RGB pixels, at the scale that is needed and no larger.

Pixels are read only after the header's size was judged against the cap, by a decoder that the table of
`lhq.images.decoders` names for the file's coding, and turned into sRGB strip by strip: of a picture of 200 megapixels
no more is ever held than its decoder must.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator

from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from lhq.errors import ImageError
from lhq.images.colour import Space, space_of_png, to_srgb
from lhq.images.containers import png_colour_chunks
from lhq.images.decoders import ROUTES
from lhq.images.header import MAX_HELD_BYTES, Header, inspect
from lhq.images.png_rows import strips

# Pillow warns of odd metadata and of large pictures; sizes are judged here, by our own cap, before decoding.
warnings.filterwarnings("ignore", module=r"PIL\.")

_STRIP_PX = 2**20
_WHOLE_PX = 2**20  # a PNG so small is read whole: a tenth quicker
_MOST_TIMES = 8


def decode(
    data: bytes | bytearray | memoryview,
    *,
    max_pixels: int = 0,
    short_side_px: int | None = None,
    header: Header | None = None,
    is_turned: bool = True,
) -> Image.Image:
    """The picture: 8-bit sRGB (mode `RGB`), turned upright, alpha laid over white.

    Args:
        max_pixels: the cap on width times height; 0: this process's (`lhq.images.allow`).
        short_side_px: the caller needs no more than this on the short side; the picture is then decoded at 1/2, 1/4
            or 1/8 (a JPEG, several times quicker) or averaged over up to 8 x 8 pixels where its short side stays at
            least twice that.
        header: what `inspect` found in these bytes, where it was asked already.
        is_turned: False leaves it as stored, for who makes it smaller before turning it.

    Raises:
        ImageError: as `inspect`; `corrupt` where the pixels can't be decoded; `too-much-memory` where `short_side_px`
            was given and the picture would still be too large.
    """
    if header is None or not header.coding:
        header = inspect(data, max_pixels=max_pixels)
    try:
        image = _read(data, header, short_side_px, header.orientation if is_turned else 1)
        return turn(image, header.orientation) if is_turned else image
    except (MemoryError, RecursionError, ImageError):
        raise
    except Exception as error:  # decoders of hostile bytes raise a dozen kinds (SyntaxError, struct.error, …)
        raise ImageError(
            f"{header.format} can't be decoded ({type(error).__name__}: {error})",
            hint="fetch it again: lhq crawl --retry-failed corrupt",
            reason="corrupt",
        ) from error


def _read(
    data: bytes | bytearray | memoryview, header: Header, short_side_px: int | None, orientation: int
) -> Image.Image:
    """As stored, sRGB, reduced. The plugins are asked by name: `Image.open` would judge by a cap of its own."""
    route = ROUTES[header.format, header.coding]
    size, times = (header.width_px, header.height_px), 1
    if header.format == "jpeg":
        image: Image.Image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
        if short_side_px is not None and route.has_scales:
            scale = min(image.size) / (2 * short_side_px)
            if scale >= 2:
                image.draft(None, (int(image.width / scale), int(image.height / scale)))
            size = image.size
    if short_side_px is not None:
        if not route.has_scales:
            times = max(1, min(_MOST_TIMES, min(size) // (2 * short_side_px)))
        _judge_memory(header, size, times, orientation)
    if header.format == "jpeg":
        image.load()
        space = Space(image.info.get("icc_profile") or b"")
        return _assembled(_cut(image, times), image.size, times, image, space)
    if header.format == "webp":
        image = _webp(data)
        return _assembled(_cut(image, times), image.size, times, image, Space(image.info.get("icc_profile") or b""))
    return _png(data, header, times)


def _png(data: bytes | bytearray | memoryview, header: Header, times: int) -> Image.Image:
    view, size = memoryview(data), (header.width_px, header.height_px)
    image = PngImagePlugin.PngImageFile(io.BytesIO(data))
    chunks = png_colour_chunks(view)
    space = space_of_png(chunks, image.info.get("icc_profile"))
    is_deep = header.mode in {"RGB;16", "RGBA;16", "LA;16"}
    if ROUTES["png", header.coding].is_in_rows and (is_deep or size[0] * size[1] > _WHOLE_PX):
        return _assembled(strips(view, chunks, space, _strip_rows(size[0], times)), size, times, None, space)
    image.load()
    if image.size != size:
        raise ValueError(f"it is {image.size[0]} x {image.size[1]}, not {size[0]} x {size[1]}")
    return _assembled(_cut(image, times), size, times, image, space)


def _webp(data: bytes | bytearray | memoryview) -> Image.Image:
    """Through the plugin's decoder, which is let go before its pixels are used: it holds two more pictures."""
    opened = WebPImagePlugin.WebPImageFile(io.BytesIO(data))
    frame = opened._decoder.get_next()
    opened._decoder = None
    if frame is None:
        raise ValueError("its frame can't be decoded")
    mode = "RGBA" if opened.rawmode == "RGBA" else "RGBX"
    image = Image.frombuffer(mode, opened.size, frame[0], "raw", mode, 0, 1)
    image.info.update({name: value for name, value in opened.info.items() if name == "icc_profile"})
    return image


def _judge_memory(header: Header, size: tuple[int, int], times: int, orientation: int) -> None:
    pixels = 4 * size[0] * size[1] // times**2
    needed = header.held_bytes + pixels * (1 if orientation == 1 else 2)
    if needed > MAX_HELD_BYTES:
        raise ImageError(
            f"{header.format} of {header.width_px} x {header.height_px} pixels: {needed / 1e6:.0f} MB at the scale "
            f"that is needed, more than the {MAX_HELD_BYTES / 1e6:.0f} MB that one picture may take",
            hint="drop it: [filter.size] max_aspect leaves out strips",
            reason="too-much-memory",
        )


def _strip_rows(width: int, times: int) -> int:
    return max(1, _STRIP_PX // (width * times)) * times


def _cut(image: Image.Image, times: int) -> Iterator[Image.Image]:
    """A whole picture in strips."""
    rows = _strip_rows(image.width, times)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        strip.info = image.info
        yield strip


def _assembled(
    parts: Iterator[Image.Image], size: tuple[int, int], times: int, whole: Image.Image | None, space: Space
) -> Image.Image:
    """The picture in sRGB from its strips, averaged over `times` x `times` pixels; `whole` where it is held already and
    may need nothing."""
    if whole is not None and times == 1:
        if whole.mode == "RGB" and not space.profile and not space.transparent:
            return whole
        if size[0] * size[1] <= _STRIP_PX:
            return to_srgb(whole, space)
    out = Image.new("RGB", (-(-size[0] // times), -(-size[1] // times)))
    top = 0
    for part in parts:
        rgb = to_srgb(part, space)
        rgb = rgb.reduce(times) if times > 1 else rgb
        out.paste(rgb, (0, top))
        top += rgb.height
    return out


def resize(image: Image.Image, short_side_px: int) -> Image.Image:
    """`image` with its short side at `short_side_px`, proportions kept, Lanczos; the same object if already so."""
    width, height = image.size
    scale = short_side_px / min(width, height)
    size = (max(short_side_px, round(width * scale)), max(short_side_px, round(height * scale)))
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turn(image: Image.Image, orientation: int) -> Image.Image:
    """Upright by the EXIF orientation 1-8."""
    how = _TURNS.get(orientation)
    return image if how is None else image.transpose(how)
