"""Bytes → facts from the header, on arrival (`inspect`), and upright RGB pixels, later (`decode`)."""

from __future__ import annotations

from lhq.errors import ImageError
from lhq.images.decode import decode, resize, turn
from lhq.images.header import FORMATS, MAX_PIXELS, Header, allow, allowed, inspect, sniff

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "Header",
    "ImageError",
    "allow",
    "allowed",
    "decode",
    "inspect",
    "resize",
    "sniff",
    "turn",
]
