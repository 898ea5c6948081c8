"""Photo → look: one decode at reduced scale that walks the whole file, shared by every measure that needs pixels.

A JPEG is decoded at an eighth of its scale straight from its DCT: entropy decoding still reads every byte, so a
file cut short or broken inside is found, for about a quarter of a full decode's time. The strict decoder goes
first because it reports broken data segments that Pillow paints grey without a word; where it only dislikes
the form (stray bytes between markers, an odd colour model), Pillow's word counts.
Which files it may see says `lhq.images.decoders`; all others are decoded by way of Pillow, by strips, and averaged.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import simplejpeg

from lhq.errors import ImageError
from lhq.images import decode, inspect
from lhq.images.decoders import may_go_fast
from lhq.records import Photo

# A look's short side is at least this where the picture's is: enough for every hash and figure made of it.
MIN_SIDE_PX = 96
ROWS = 16
"""Photos that measures which share looks take at once."""

# What the strict decoder says of data that is broken or missing; all else it says is a matter of form.
_BROKEN = ("premature end", "huffman", "bad progression", "inconsistent progression", "found marker")


@dataclass(frozen=True, slots=True)
class Look:
    """What one reduced decode of a photo shows.

    `rgbx` is uint8 [h, w, 4], turned upright, None when `error` is set; the fourth channel means nothing: Pillow holds
    four bytes a pixel, so it takes this array as it is, without a copy. `error` is one short word (`truncated`,
    `corrupt`, `animated`, `too-many-pixels` …) and `said` the sentence. `mode` is Pillow's word for the stored
    colour model; `width_px`, `height_px` the true size, upright.
    """

    rgbx: np.ndarray | None
    mode: str = ""
    width_px: int = 0
    height_px: int = 0
    error: str = ""
    said: str = ""


_latest: deque[tuple[bytes, Look]] = deque(maxlen=ROWS)


def look(photo: Photo) -> Look:
    """The reduced picture of a photo; the same bytes object asked for again comes from memory.

    Measures that see the same batch of at most `ROWS` photos so cost one decode. Never raises for what is in
    the bytes: an undecodable photo is a look with `error`.
    """
    for data, seen in _latest:
        if data is photo.data:
            return seen
    fresh = _look(photo)
    _latest.append((photo.data, fresh))
    return fresh


def _look(photo: Photo) -> Look:
    try:
        header = inspect(photo.data, sha256=photo.sha256)
        if may_go_fast(header.format, header.coding, header.mode):
            rgbx = _jpeg(photo.data)
            if rgbx is not None:
                return Look(_turn(rgbx, header.orientation), header.mode, *header.upright_px)
        picture = decode(photo.data, short_side_px=MIN_SIDE_PX // 2, header=header)
        return Look(np.asarray(picture.convert("RGBX")), header.mode, *header.upright_px)
    except ImageError as error:
        return Look(None, error=error.reason, said=error.message)


def _jpeg(data: bytes) -> np.ndarray | None:
    """uint8 [h, w, 4] as stored, or None where the strict decoder only dislikes the form.

    Raises:
        ImageError: `corrupt`: entropy-coded data is broken or missing.
    """
    try:
        rgbx: np.ndarray = simplejpeg.decode_jpeg(
            data, "RGBX", min_height=MIN_SIDE_PX, min_width=MIN_SIDE_PX, min_factor=1
        )
        return rgbx
    except ValueError as error:
        said = str(error)
        if any(word in said.lower() for word in _BROKEN):
            raise ImageError(f"jpeg: {said}", hint="lhq crawl --retry-failed corrupt", reason="corrupt") from error
        return None


def _turn(rgbx: np.ndarray, orientation: int) -> np.ndarray:
    """Upright by the EXIF orientation 1-8. Source: EXIF 2.32, tag 0x0112."""
    if orientation >= 5:
        rgbx = rgbx.swapaxes(0, 1)
    if orientation in {2, 3, 6, 7}:
        rgbx = rgbx[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        rgbx = rgbx[::-1]
    return np.ascontiguousarray(rgbx)
