"""Raw rows → JPEG or WebP through libvips.

libvips streams, but keeps bands of full-width rows in memory (387 MB for 1,000,000 × 64 px). So it is used only for
these two formats, which limit the width themselves.
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from PIL import Image

from alis.formats.raw_picture import RawPicture, atomic_path, require_package

QUALITY = 92
_DESCRIPTION = 0x010E


def encode(rows: RawPicture, path: Path, note: str) -> None:
    """Write the picture at quality 92, with its note as the EXIF image description."""
    pyvips = require_package("pyvips", path)
    with atomic_path(path) as part:
        try:
            image = pyvips.Image.rawload(str(rows.path), rows.width, rows.height, 3, access="sequential")
            image = image.copy(interpretation="srgb")
            image.set_type(pyvips.GValue.gstr_type, "exif-ifd0-ImageDescription", note)
            image.write_to_file(str(part), Q=QUALITY)
        except pyvips.Error as error:
            # libvips does not report the system's error.
            if shutil.disk_usage(path.absolute().parent).free < rows.width * rows.height:
                raise OSError(errno.ENOSPC, "no space left") from error
            raise


def read_note(path: Path) -> str | None:
    """Read the note from the EXIF image description."""
    with Image.open(path) as picture:
        note = picture.getexif().get(_DESCRIPTION)
    return None if note is None else str(note)
