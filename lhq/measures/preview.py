"""Photo → preview: one decode at reduced scale that reads the whole file, shared by every measure that needs pixels.

A JPEG is decoded at an eighth of its scale straight from its DCT: entropy decoding still reads every byte, so a
truncated or corrupt file is found, in about a quarter of the time of a full decode. The strict decoder goes
first because it reports broken data segments that Pillow silently paints grey; where it only objects to the form
(stray bytes between markers, an unusual colour model), Pillow decides.
`lhq.images.decoders` says which files it may see; all others are decoded by Pillow in strips, which are averaged.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

import numpy as np
import simplejpeg

from lhq.errors import ImageError
from lhq.images import decode, inspect
from lhq.images.decoders import simplejpeg_can_read
from lhq.records import Photo

# A preview's short side is at least this where the picture's is: enough for every hash and figure made from it.
MIN_SIDE_PX = 96
ROWS = 64
"""How many previews are remembered: the batch size of measures that share them."""

# The strict decoder's messages for broken or missing data; all its others are about the form. Stray bytes before a
# restart marker are pixels that were skipped; before any other they are harmless.
_BROKEN = re.compile(
    r"premature end|huffman|(bad|inconsistent) progression|found marker|extraneous bytes before marker 0xd[0-7]",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Preview:
    """The result of one reduced decode of a photo.

    `rgbx` is uint8 [h, w, 4], turned upright, None when `error` is set; the fourth channel is padding: Pillow stores
    four bytes a pixel, so it takes this array without a copy. `error` is a reason (`truncated`,
    `corrupt`, `animated`, `too-many-pixels` …) and `said` its message. `mode` is Pillow's name for the stored
    colour model; `width_px`, `height_px` are the full size, upright.
    """

    rgbx: np.ndarray | None
    mode: str = ""
    width_px: int = 0
    height_px: int = 0
    error: str = ""
    said: str = ""


_latest: deque[tuple[bytes, Preview]] = deque(maxlen=ROWS)


def preview(photo: Photo) -> Preview:
    """The preview of a photo; asked again for the same bytes object, it comes from memory.

    Several measures that see the same batch of at most `ROWS` photos therefore share one decode. Never raises because
    of the bytes: an undecodable photo is a preview with `error`.
    """
    for data, seen in _latest:
        if data is photo.data:
            return seen
    fresh = _decoded(photo)
    _latest.append((photo.data, fresh))
    return fresh


def _decoded(photo: Photo) -> Preview:
    try:
        header = inspect(photo.data, sha256=photo.sha256)
        if simplejpeg_can_read(header.format, header.coding, header.mode):
            rgbx = _jpeg(photo.data)
            if rgbx is not None:
                return Preview(_turn(rgbx, header.orientation), header.mode, *header.upright_px)
        picture = decode(photo.data, short_side_px=MIN_SIDE_PX // 2, header=header)
        return Preview(np.asarray(picture.convert("RGBX")), header.mode, *header.upright_px)
    except ImageError as error:
        return Preview(None, error=error.reason, said=error.message)


def _jpeg(data: bytes) -> np.ndarray | None:
    """uint8 [h, w, 4] as stored, or None where the strict decoder only objects to the form.

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
        if _BROKEN.search(said):
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
