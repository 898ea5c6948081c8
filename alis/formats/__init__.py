"""Picture formats: which endings we write, how large each may be, and the note that every picture carries."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alis.errors import InputError
from alis.formats import deep_zoom, png, tiff, vips
from alis.formats.rows import Pixels, Rows

__all__ = ["FORMATS", "Format", "Pixels", "Rows", "check_place", "check_size", "find", "read_note"]


@dataclass(frozen=True)
class Format:
    """What a file name's ending asks for."""

    name: str
    max_side: int
    disk_factor: float
    """Most disk taken while it is made, as a multiple of the raw picture's size."""
    encode: Callable[[Rows, Path, str], None]
    read_note: Callable[[Path], str | None]


_ANY = 2**31 - 1
FORMATS = {
    ".png": Format("PNG", _ANY, 2.1, png.encode, png.read_note),
    ".jpg": Format("JPEG", 65_500, 2.0, vips.encode, vips.read_note),
    ".webp": Format("WebP", 16_383, 2.0, vips.encode, vips.read_note),
    ".tif": Format("BigTIFF", _ANY, 2.1, tiff.encode, tiff.read_note),
    ".dzi": Format("Deep Zoom", _ANY, 2.6, deep_zoom.encode, deep_zoom.read_note),
}


_OTHERS = {".jpeg": ".jpg", ".tiff": ".tif"}


def find(path: Path) -> Format:
    """Raises: InputError: no format has this ending."""
    ending = path.suffix.lower()
    found = FORMATS.get(_OTHERS.get(ending, ending))
    if not found:
        raise InputError(f"{path}: no picture format ends in {path.suffix!r}", hint=f"use {', '.join(FORMATS)}")
    return found


def check_place(path: Path, *, overwrite: bool) -> None:
    """Raises: InputError: something of that name is in the way, or there is no such folder."""
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path.parent}: no such folder", hint="make it first")
    if path.is_dir():
        raise InputError(f"{path}: is a folder", hint="give a file's name")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists", hint="remove it, or overwrite it with --force")
    tiles = deep_zoom.folder_of(path)
    if find(path) is FORMATS[".dzi"] and tiles.exists() and deep_zoom.is_foreign(tiles):
        raise InputError(f"{tiles}: holds something else than a picture's tiles", hint="give another -o")


def check_size(path: Path, width: int, height: int) -> None:
    """Raises: InputError: the picture is empty or its format can't hold it."""
    form = find(path)
    if width < 1 or height < 1:
        raise InputError(f"{path}: a picture of {width:,} × {height} px is empty", hint="give a width of at least 1")
    if max(width, height) > form.max_side:
        wider = [ending for ending, other in FORMATS.items() if other.max_side >= max(width, height)]
        raise InputError(
            f"{path}: {width:,} × {height:,} px is beyond {form.name}'s limit of {form.max_side:,} px a side",
            hint=f"use {', '.join(wider)}" if wider else f"paint at most {form.max_side:,} columns",
        )


def read_note(path: Path) -> str | None:
    """The note inside a finished picture, None when it has none.

    Raises:
        InputError: not a picture of a format we write.
    """
    form = find(path)
    try:
        return form.read_note(path)
    except (OSError, ValueError, struct.error) as error:
        raise InputError(f"{path}: can't be read as a picture ({error})", hint="give a strip that alis saved") from None
