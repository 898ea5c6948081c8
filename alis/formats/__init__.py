"""Picture formats: the file endings that can be written, their size limits, and the note stored in every picture."""

from __future__ import annotations

import io
import os
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from alis.errors import InputError
from alis.formats import deep_zoom, png, tiff, vips
from alis.formats.raw_picture import Pixels, RawPicture, require_package
from lhq import system

__all__ = [
    "FORMATS",
    "Format",
    "Pixels",
    "RawPicture",
    "check_place",
    "check_size",
    "check_writable",
    "compressed",
    "find",
    "read_note",
]


@dataclass(frozen=True)
class Format:
    """A picture format, chosen by the file name's ending."""

    name: str
    max_side: int
    disk_factor: float
    """Largest disk use while the picture is written, as a multiple of the raw picture's size."""
    encode: Callable[[RawPicture, Path, str], None]
    read_note: Callable[[Path], str | None]
    is_lossless: bool = False
    needs: str | None = None
    """The optional package that it needs."""


_ANY = 2**31 - 1
# The longest suffix of a file beside a picture while it is written.
_LONGEST_BESIDE = ".partial.json.new"
FORMATS = {
    ".png": Format("PNG", _ANY, 2.1, png.encode, png.read_note, is_lossless=True),
    ".jpg": Format("JPEG", 65_500, 2.0, vips.encode, vips.read_note, needs="pyvips"),
    ".webp": Format("WebP", 16_383, 2.0, vips.encode, vips.read_note, needs="pyvips"),
    ".tif": Format("BigTIFF", _ANY, 2.1, tiff.encode, tiff.read_note, is_lossless=True, needs="tifffile"),
    ".dzi": Format("Deep Zoom", _ANY, 2.6, deep_zoom.encode, deep_zoom.read_note),
}


_OTHERS = {".jpeg": ".jpg", ".tiff": ".tif"}


def find(path: Path) -> Format:
    """The format of a path. Raises: InputError: no format has this ending."""
    ending = path.suffix.lower()
    found = FORMATS.get(_OTHERS.get(ending, ending))
    if not found:
        raise InputError(f"{path}: no picture format ends in {path.suffix!r}", hint=f"use {', '.join(FORMATS)}")
    return found


def check_place(path: Path, *, overwrite: bool) -> None:
    """Raises: InputError: the file exists and may not be replaced, or can't be written."""
    check_writable(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder", hint="give a file's name")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists", hint="remove it, or overwrite it with --force")
    tiles = deep_zoom.folder_of(path)
    if find(path) is FORMATS[".dzi"] and tiles.exists() and deep_zoom.is_foreign(tiles):
        raise InputError(f"{tiles}: contains other files than a picture's tiles", hint="give another -o")


def check_writable(path: Path) -> None:
    """Check, before minutes of work, that a file can be created at `path`.

    Raises:
        InputError: no such folder, a name too long for the temporary files beside it, or no permission.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"{path.parent}: no such folder", hint="make it first")
    most = system.longest_name(folder) - len(_LONGEST_BESIDE)
    if len(os.fsencode(path.name)) > most:
        raise InputError(
            f"{path.name[:60]}…: the name has {len(os.fsencode(path.name))} bytes", hint=f"use at most {most}"
        )
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{path.parent}: can't be written ({error.strerror or error})", hint="give a folder that can be"
        ) from None


def check_size(path: Path, width: int, height: int) -> None:
    """Raises: InputError: the picture is empty or its format can't hold it."""
    form = find(path)
    if form.needs:
        require_package(form.needs, path)
    if width < 1 or height < 1:
        raise InputError(f"{path}: a picture of {width:,} × {height} px is empty", hint="give a width of at least 1")
    if max(width, height) > form.max_side:
        wider = [ending for ending, other in FORMATS.items() if other.max_side >= max(width, height)]
        raise InputError(
            f"{path}: {width:,} × {height:,} px is beyond {form.name}'s limit of {form.max_side:,} px a side",
            hint=f"use {', '.join(wider)}" if wider else f"paint at most {form.max_side:,} columns",
        )


def compressed(pixels_HWC: Pixels, path: Path) -> Pixels:
    """The same pixels after the lossy compression of a path's format; of the lossless ones, as they are."""
    if find(path).is_lossless:
        return pixels_HWC
    file = io.BytesIO()
    name = "WEBP" if path.suffix.lower() == ".webp" else "JPEG"
    Image.fromarray(pixels_HWC).save(file, name, quality=vips.QUALITY)
    with Image.open(file) as opened:
        return np.asarray(opened.convert("RGB"))


def read_note(path: Path) -> str | None:
    """The note stored in a picture (how it was painted), or None if it has none.

    Raises:
        InputError: not a picture in one of `FORMATS`.
    """
    form = find(path)
    try:
        return form.read_note(path)
    except (OSError, ValueError, struct.error) as error:
        raise InputError(f"{path}: can't be read as a picture ({error})", hint="give a strip that alis saved") from None
