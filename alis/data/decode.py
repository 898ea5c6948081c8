"""Encoded bytes → one R×R RGB picture in a place of a batch.

JPEGs of the right size go straight through libjpeg-turbo into the batch's memory with the interpreter lock released,
if the table of `lhq.images.decoders` lets the fast decoder see them; other JPEG, PNG and WebP files (other sizes, EXIF
turns, colour profiles) take the longer way through `lhq.images.decode`, and whatever else a dataset holds (GIF, BMP,
TIFF) goes through Pillow.
Why simplejpeg: 256 px, quality 95, one core of this project's CPU: see docs/training.md for the comparison.
"""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from lhq.errors import ImageError
from lhq.images import FORMATS, MAX_PIXELS, decode, sniff
from lhq.images.decoders import fast_jpeg

Fit = Literal["resize", "crop", "refuse"]


class BadImage(Exception):
    """These bytes are not a usable picture; the text says why. A value of the row, not the run's failure."""


class WrongSize(Exception):
    """The picture is not R×R and the settings say to refuse that."""


def decode_into(data: memoryview | bytes, out_HWC: np.ndarray, fit: Fit, chance: float = 0.5) -> bool:
    """Decode one picture into `out_HWC` [R, R, 3] uint8 and say whether it had to be fitted.

    Args:
        fit: for other sizes. `resize`: the centre square, scaled. `crop`: the short side scaled to R, then a square
            at the place `chance` in [0, 1) along the long side. `refuse`: an error.

    Raises:
        BadImage, WrongSize
    """
    size = out_HWC.shape[0]
    fast = fast_jpeg(data)
    if fast is not None and (fast.height_px, fast.width_px) == (size, size) and not (fast.has_exif or fast.has_profile):
        try:
            simplejpeg.decode_jpeg(data, "RGB", buffer=out_HWC)
            return False
        except ValueError as error:
            raise BadImage(str(error)) from None
    return _decode_slowly(data, out_HWC, fit, chance)


def eight_bits(picture: Image.Image) -> Image.Image:
    """Greys of 16 bits scaled to 8 (Pillow would cut them off, to white); anything else as it is."""
    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.asarray(picture).clip(0, 65_535) / 257).round().astype(np.uint8))


def _decode_slowly(data: memoryview | bytes, out_HWC: np.ndarray, fit: Fit, chance: float) -> bool:
    size = out_HWC.shape[0]
    picture = _opened(data, size)
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


def _opened(data: memoryview | bytes, size: int) -> Image.Image:
    """The picture, upright and RGB; a large one reduced to no less than twice `size` on its short side.

    Raises:
        BadImage
    """
    try:
        if sniff(data) in FORMATS:
            return decode(data, short_side_px=size)
        with Image.open(io.BytesIO(data)) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise BadImage(f"{opened.width}×{opened.height} pixels")
            return eight_bits(ImageOps.exif_transpose(opened)).convert("RGB")
    except BadImage:
        raise
    except ImageError as error:
        raise BadImage(error.message) from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise BadImage(str(error) or type(error).__name__) from None
