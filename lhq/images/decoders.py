"""Image format and coding → what decoders support: the one table that every reader of pixels consults.

A decoder that is given a coding it doesn't support may return grey pixels or corrupt the heap: libjpeg-turbo's scaled
decoder sizes its buffer for a DCT, and a lossless JPEG (SOF3) has none. So only the codings below are decoded
(`inspect` refuses the others by name), and only those marked here are scaled in the decoder or read by simplejpeg.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lhq.errors import ImageError
from lhq.images.containers import has_too_many_scans, parse_jpeg_header


@dataclass(frozen=True, slots=True)
class DecoderSupport:
    """How one coding can be decoded; if neither field is set, Pillow decodes the whole image.

    `scales_in_decoder`: libjpeg can decode it at 1/2, 1/4 or 1/8 (Pillow's `draft`, simplejpeg). `reads_by_rows`:
    rows are decoded one after another, so that the whole image is never in memory.
    """

    scales_in_decoder: bool = False
    reads_by_rows: bool = False


DECODER_SUPPORT = {
    ("jpeg", "baseline"): DecoderSupport(scales_in_decoder=True),
    ("jpeg", "extended"): DecoderSupport(scales_in_decoder=True),
    ("jpeg", "progressive"): DecoderSupport(scales_in_decoder=True),
    ("jpeg", "arithmetic"): DecoderSupport(),
    ("jpeg", "progressive arithmetic"): DecoderSupport(),
    ("jpeg", "lossless"): DecoderSupport(),
    ("png", "plain"): DecoderSupport(reads_by_rows=True),
    ("png", "interlaced"): DecoderSupport(),
    ("webp", "lossy"): DecoderSupport(),
    ("webp", "lossless"): DecoderSupport(),
}
# Colour models that simplejpeg converts to RGB as browsers do; its conversion of CMYK differs.
_FAST_MODES = {"RGB", "L"}


def simplejpeg_can_read(format: str, coding: str, mode: str) -> bool:
    """Whether simplejpeg supports such a file, at full size and scaled."""
    support = DECODER_SUPPORT.get((format, coding))
    return support is not None and support.scales_in_decoder and mode in _FAST_MODES


@dataclass(frozen=True, slots=True)
class SimpleJpegHeader:
    """A JPEG that simplejpeg supports: size as stored, and whether it has EXIF (maybe an orientation) or a profile."""

    width_px: int
    height_px: int
    has_exif: bool
    has_profile: bool


def probe_for_simplejpeg(data: bytes | memoryview) -> SimpleJpegHeader | None:
    """The header of a JPEG that simplejpeg supports, or None. Takes microseconds: doesn't look for the file's end."""
    view = memoryview(data)
    if bytes(view[:3]) != b"\xff\xd8\xff":
        return None
    try:
        structure, scan = parse_jpeg_header(view)
    except (ImageError, IndexError, struct.error):
        return None
    if not simplejpeg_can_read("jpeg", structure.coding, structure.mode) or has_too_many_scans(view, structure, scan):
        return None
    has_profile = b"ICC_PROFILE\0" in bytes(view[:scan])
    return SimpleJpegHeader(structure.width_px, structure.height_px, structure.exif is not None, has_profile)
