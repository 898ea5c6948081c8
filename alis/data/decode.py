"""Encoded bytes → one R×R RGB picture in a place of a batch.

JPEGs of the right size go straight through libjpeg-turbo into the batch's memory with the interpreter lock
released; everything else (other sizes, other formats, EXIF turns) takes the longer way through Pillow.
Why simplejpeg: 256 px, quality 95, one core of this project's CPU: see docs/training.md for the comparison.
"""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

Fit = Literal["resize", "crop", "refuse"]
MAX_PIXELS = 200_000_000
# How libjpeg begins a file without metadata: JFIF 1.1 without density, a quantisation table at once.
_NO_EXIF = bytes.fromhex("ffd8 ffe0 0010 4a464946 00 0101 00 0001 0001 0000 ffdb")


class BadImage(Exception):
    """These bytes are no usable picture; the text says why. A value of the row, not the run's failure."""


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
    head = bytes(data[:4096])
    if head.startswith(_NO_EXIF) or (head.startswith(b"\xff\xd8") and b"Exif\0" not in head):
        try:
            height, width, colour, _ = simplejpeg.decode_jpeg_header(data)
            if (height, width) == (size, size) and colour != "CMYK":
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
    try:
        with Image.open(io.BytesIO(data)) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise BadImage(f"{opened.width}×{opened.height} pixels")
            if opened.format == "JPEG":
                opened.draft("RGB", (2 * size, 2 * size))  # libjpeg scales by 1/2, 1/4, 1/8 while decoding
            picture = eight_bits(ImageOps.exif_transpose(opened)).convert("RGB")
    except BadImage:
        raise
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise BadImage(str(error) or type(error).__name__) from None
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
