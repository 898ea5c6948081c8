"""Image bytes → header facts on arrival (`inspect`), and upright RGB pixels once they are needed (`decode`)."""

from __future__ import annotations

from lhq.errors import ImageError
from lhq.images.decode import apply_orientation, decode, decode_opened, resize
from lhq.images.header import (
    FORMATS,
    MAX_PIXELS,
    Header,
    check_pixels,
    inspect,
    max_pixels_limit,
    set_max_pixels,
    sniff,
)

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "Header",
    "ImageError",
    "apply_orientation",
    "check_pixels",
    "decode",
    "decode_opened",
    "inspect",
    "max_pixels_limit",
    "resize",
    "set_max_pixels",
    "sniff",
]
