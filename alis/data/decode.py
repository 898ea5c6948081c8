"""Encoded bytes → one R×R RGB picture, written into a batch.

JPEGs of the right size that the fast decoder may read (see `lhq.images.decoders`) are decoded by libjpeg-turbo directly
into the batch's memory, without the interpreter lock. All other pictures are decoded by `lhq.images`: JPEG, PNG and
WebP of other sizes, with EXIF orientation or colour profiles, and other formats (GIF, BMP, TIFF) as Pillow reads them.
Why simplejpeg: 256 px, quality 95, one core of this project's CPU: see docs/training.md for the comparison.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Literal

import numpy as np
import simplejpeg
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from alis.errors import RunError
from lhq.errors import ImageError, LhqError
from lhq.images import FORMATS, decode, decode_opened, inspect, max_pixels_limit, set_max_pixels, sniff
from lhq.images.decoders import probe_for_simplejpeg
from lhq.processes import Died, HelperProcess

Fit = Literal["resize", "crop", "refuse"]


class BadImage(Exception):
    """These bytes are not a usable picture; the message says why. It concerns one row only, not the run."""


class WrongSize(Exception):
    """The picture is not R×R, and fit = "refuse"."""


def decode_into(data: memoryview | bytes, out_HWC: np.ndarray, fit: Fit, chance: float = 0.5) -> bool:
    """Decode one picture into `out_HWC` [R, R, 3] uint8; return whether it had to be resized.

    Args:
        fit: for other sizes. `resize`: scale the centre square. `crop`: scale the short side to R, then cut a square
            at position `chance`, in [0, 1), along the long side. `refuse`: an error.

    Raises:
        BadImage, WrongSize
    """
    size = out_HWC.shape[0]
    fast = probe_for_simplejpeg(data)
    if fast is not None and (fast.height_px, fast.width_px) == (size, size) and not (fast.has_exif or fast.has_profile):
        try:
            simplejpeg.decode_jpeg(data, "RGB", buffer=out_HWC)
            return False
        except ValueError as error:
            raise BadImage(str(error)) from None
    return _decode_slowly(data, out_HWC, fit, chance)


def _decode_slowly(data: memoryview | bytes, out_HWC: np.ndarray, fit: Fit, chance: float) -> bool:
    size = out_HWC.shape[0]
    picture = open_picture(data, size)
    width, height = picture.size
    if (width, height) == (size, size):
        out_HWC[:] = np.asarray(picture)
        return False
    if fit == "refuse":
        raise WrongSize(f"{width}×{height} px instead of {size}×{size}")
    side = min(width, height)
    left = (width - side) * (chance if fit == "crop" else 0.5)
    top = (height - side) * (chance if fit == "crop" else 0.5)
    box = (left, top, left + side, top + side)
    out_HWC[:] = np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS, box=box))
    return True


def open_picture(data: memoryview | bytes, short_side_px: int) -> Image.Image:
    """Decode a picture: upright, sRGB (mode `RGB`), transparency over white.

    A large one may be reduced, to at least twice `short_side_px` on its short side.

    Raises:
        BadImage: it can't be decoded, or has more pixels than `lhq.images` allows.
    """
    kind = sniff(data)
    try:
        if kind in FORMATS:
            return decode(data, short_side_px=short_side_px)
        # By the plugin's class where it is known: `Image.open` has a limit of its own.
        with _PLUGINS.get(kind, Image.open)(io.BytesIO(data)) as opened:
            return decode_opened(opened, len(data), short_side_px)
    except ImageError as error:
        raise BadImage(error.message) from None
    except (MemoryError, RecursionError):
        raise
    except UnidentifiedImageError:
        raise BadImage(f"{kind}, not a picture of a format that is read".removeprefix(", ")) from None
    except Exception as error:  # on damaged bytes, Pillow's plugins raise a dozen types (RuntimeError, TypeError, …)
        raise BadImage(str(error) or type(error).__name__) from None


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height of a picture, by its header where this package reads that itself.

    Raises:
        BadImage, RunError: as `open_picture_apart`.
    """
    if sniff(data) not in FORMATS:
        return open_picture_apart(data, 1).size
    try:
        return inspect(data).upright_px
    except ImageError as error:
        raise BadImage(error.message) from None


def open_picture_apart(data: bytes, short_side_px: int) -> Image.Image:
    """As `open_picture`, in a process of its own, which a picture may kill.

    Raises:
        BadImage: as `open_picture`, or how the picture ended that process.
        RunError: the process can't be started.
    """
    try:
        with HelperProcess(_open_picture) as helper:
            picture = helper(data, short_side_px, max_pixels_limit())
    except LhqError as error:
        raise RunError(error.message, hint=error.hint) from None
    if isinstance(picture, Died):
        raise BadImage(f"it kills its decoder ({picture.how})")
    return picture


def _open_picture(data: bytes, short_side_px: int, max_pixels: int) -> Image.Image:
    set_max_pixels(max_pixels)
    return open_picture(data, short_side_px)


def try_to_decode(data: bytes, resolution: int, max_pixels: int) -> None:
    """Decode a picture as the loader does, thrice: a damaged heap may be noticed late. For a process of its own."""
    set_max_pixels(max_pixels)
    with contextlib.suppress(BadImage):
        for _ in range(3):
            decode_into(data, np.empty((resolution, resolution, 3), np.uint8), "resize")


_PLUGINS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
}
