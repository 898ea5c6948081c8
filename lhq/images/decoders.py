"""Kind of file → the decoders that may see it: the one table that every reader of pixels asks.

A decoder that is handed a kind that it was not made for answers with anything from grey pixels to a corrupted heap:
libjpeg-turbo's scaled decoder sizes its buffer for a DCT, and a lossless JPEG (SOF3) has none. So only the codings
below are read at all (`inspect` refuses the others by name), and only those marked so are read at a scale or by the
fast decoder.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lhq.errors import ImageError
from lhq.images.containers import jpeg_frame


@dataclass(frozen=True, slots=True)
class Route:
    """What may be done with one coding.

    `has_scales`: libjpeg may decode it at 1/2, 1/4 or 1/8, Pillow's `draft` and simplejpeg alike. `is_in_rows`: its
    rows can be read one after another, so that the whole picture is never held. Neither: Pillow reads it whole.
    """

    has_scales: bool = False
    is_in_rows: bool = False


ROUTES = {
    ("jpeg", "baseline"): Route(has_scales=True),
    ("jpeg", "extended"): Route(has_scales=True),
    ("jpeg", "progressive"): Route(has_scales=True),
    ("jpeg", "arithmetic"): Route(),
    ("jpeg", "progressive arithmetic"): Route(),
    ("jpeg", "lossless"): Route(),
    ("png", "plain"): Route(is_in_rows=True),
    ("png", "interlaced"): Route(),
    ("webp", "lossy"): Route(),
    ("webp", "lossless"): Route(),
}
# Colour models that simplejpeg turns into RGB as browsers do; CMYK it does not.
_FAST_MODES = {"RGB", "L"}


def may_go_fast(format: str, coding: str, mode: str) -> bool:
    """Whether simplejpeg may see such a file, at full size or at a scale."""
    route = ROUTES.get((format, coding))
    return route is not None and route.has_scales and mode in _FAST_MODES


@dataclass(frozen=True, slots=True)
class FastJpeg:
    """A JPEG that simplejpeg may see: its size as stored, and whether it has an EXIF block (which may turn it) or a
    colour profile."""

    width_px: int
    height_px: int
    has_exif: bool
    has_profile: bool


def fast_jpeg(data: bytes | memoryview) -> FastJpeg | None:
    """What a loader asks of each picture before it takes the fast way; None where it must not. A few microseconds: the
    file's end is not looked at.
    """
    view = memoryview(data)
    if bytes(view[:3]) != b"\xff\xd8\xff":
        return None
    try:
        found, scan = jpeg_frame(view)
    except (ImageError, IndexError, struct.error):
        return None
    if not may_go_fast("jpeg", found.coding, found.mode):
        return None
    has_profile = b"ICC_PROFILE\0" in bytes(view[:scan])
    return FastJpeg(found.width_px, found.height_px, found.exif is not None, has_profile)
