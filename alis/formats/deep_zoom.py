"""Raw rows → Deep Zoom: `name.dzi` and `name_files/<level>/<column>_<row>.jpg`, for viewers such as OpenSeadragon.

Tiles are cut from the raw picture. Each smaller level is a raw file of half the size, so memory use does not grow with
the width.
Source: Deep Zoom file format overview (tile size 256, overlap 1).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from alis.errors import InputError
from alis.formats.raw_picture import Pixels, RawPicture, atomic_path
from alis.progress import progress_bar
from lhq import system

_TILE, _QUALITY, _NOTE = 256, 92, "alis.json"


def folder_of(path: Path) -> Path:
    """The folder of a picture's tiles."""
    return path.with_name(f"{path.stem}_files")


def is_foreign(folder: Path) -> bool:
    """Whether a folder was not written by `encode`."""
    return not (folder / _NOTE).is_file()


def encode(rows: RawPicture, path: Path, note: str) -> None:
    """Write the tiles of all levels, then the .dzi description; the note is saved with the tiles as `alis.json`."""
    folder, scratch = folder_of(path), path.with_name(f".{path.stem}_files.encoding")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    num_levels = (max(rows.width, rows.height) - 1).bit_length() + 1
    level: RawPicture | _Level = rows
    try:
        with progress_bar(f"encode {path.name}", 2 * rows.width) as advance:
            for number in reversed(range(num_levels)):
                _tiles(level, scratch / str(number))
                advance(level.width)
                if number:
                    smaller = _halved(level, scratch / "halved")
                    if isinstance(level, _Level):
                        level.close()
                    level = smaller
        (scratch / _NOTE).write_text(note, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(scratch, folder)
        with atomic_path(path) as described:
            described.write_text(
                '<?xml version="1.0" encoding="UTF-8"?>\n'
                '<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="jpg" Overlap="1" '
                f'TileSize="{_TILE}"><Size Width="{rows.width}" Height="{rows.height}"/></Image>\n',
                encoding="utf-8",
            )
    finally:
        if isinstance(level, _Level):
            level.close()
        shutil.rmtree(scratch, ignore_errors=True)


def read_note(path: Path) -> str | None:
    """Read the note saved with the tiles."""
    note = folder_of(path) / _NOTE
    return note.read_text(encoding="utf-8") if path.is_file() and note.is_file() else None


class Tiles:
    """The largest level of a Deep Zoom picture on disk, from which columns can be read.

    Raises:
        InputError: the description has no size, or a tile is missing, damaged or of another size than described.
    """

    def __init__(self, path: Path) -> None:
        self.path, text = path, path.read_text(encoding="utf-8", errors="replace")
        self.width, self.height, self.side = (self._number(text, name) for name in ("Width", "Height", "TileSize"))
        self.overlap = self._number(text, "Overlap")
        ending = re.search(r'\bFormat="(\w+)"', text)
        if ending is None or not self.width or not self.height or not self.side:
            raise InputError(f"{path}: does not describe a picture", hint="give a strip as alis saved it")
        self.ending = ending[1]
        self.level = folder_of(path) / str((max(self.width, self.height) - 1).bit_length())

    def _number(self, text: str, name: str) -> int:
        found = re.search(rf'\b{name}="(\d{{1,10}})"', text)
        if found is None:
            raise InputError(f"{self.path}: has no {name}", hint="give a strip as alis saved it")
        return int(found[1])

    def columns(self, left: int, right: int) -> Pixels:
        """Pixel columns left … right − 1: uint8 [height, right − left, 3]."""
        picture = np.empty((self.height, right - left, 3), np.uint8)
        for column in range(left // self.side, -(-right // self.side)):
            for row in range(-(-self.height // self.side)):
                x, y = column * self.side, row * self.side
                tile = self._tile(column, row)
                a, b = max(x, left), min(x + self.side, right)
                inset_x, inset_y = (self.overlap if at else 0 for at in (x, y))
                part = tile[inset_y : inset_y + self.side, inset_x + a - x : inset_x + b - x]
                picture[y : y + self.side, a - left : b - left] = part
        return picture

    def _tile(self, column: int, row: int) -> Pixels:
        path = self.level / f"{column}_{row}.{self.ending}"
        try:
            with Image.open(path) as opened:
                tile = np.asarray(opened.convert("RGB"))
        except OSError as error:
            raise InputError(f"{path}: can't be read ({error})", hint="give a strip as alis saved it") from None
        sides = [
            min((at + 1) * self.side + self.overlap, length) - max(at * self.side - self.overlap, 0)
            for at, length in ((row, self.height), (column, self.width))
        ]
        if [*tile.shape[:2]] != sides:
            raise InputError(
                f"{path}: is {tile.shape[1]} × {tile.shape[0]} px, {self.path.name} says {sides[1]} × {sides[0]}: "
                "it was cropped or scaled after it was painted",
                hint="give the strip as alis saved it",
            )
        return tile


def _tiles(level: RawPicture, folder: Path) -> None:
    """Write one level's tiles; each overlaps its neighbours by one pixel, so that viewers show no seams."""
    folder.mkdir()
    for left in range(0, level.width, _TILE):
        for top in range(0, level.height, _TILE):
            bottom, right = min(top + _TILE + 1, level.height), min(left + _TILE + 1, level.width)
            tile = level.read(max(top - 1, 0), bottom, max(left - 1, 0), right)
            Image.fromarray(tile).save(folder / f"{left // _TILE}_{top // _TILE}.jpg", quality=_QUALITY)


class _Level:
    """A smaller level of the zoom pyramid, as a temporary raw picture on disk."""

    def __init__(self, path: Path, width: int, height: int) -> None:
        self.path, self.width, self.height = path, width, height
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | system.O_BINARY, 0o600)
        with contextlib.suppress(PermissionError):  # Windows can't delete an open file: `close` does
            path.unlink()

    def write(self, left: int, columns_HwC: Pixels) -> None:
        for row, line in enumerate(np.ascontiguousarray(columns_HwC)):
            data, offset = line.tobytes(), (row * self.width + left) * 3
            while data:
                written = system.write_at(self.fd, data, offset)
                data, offset = data[written:], offset + written

    def read(self, top: int, bottom: int, left: int, right: int) -> Pixels:
        size = (right - left) * 3
        lines = [system.read_at(self.fd, size, (row * self.width + left) * 3) for row in range(top, bottom)]
        return np.frombuffer(b"".join(lines), np.uint8).reshape(bottom - top, right - left, 3)

    def close(self) -> None:
        os.close(self.fd)
        self.path.unlink(missing_ok=True)


def _halved(level: RawPicture, path: Path) -> _Level:
    """The next smaller level: means of 2 × 2 pixels; the last row or column is repeated if a side is odd."""
    small = _Level(path, -(-level.width // 2), -(-level.height // 2))
    for left in range(0, small.width, 4 * _TILE):
        right = min(left + 4 * _TILE, small.width)
        part = level.read(0, level.height, 2 * left, min(2 * right, level.width)).astype(np.uint16)
        odd_rows, odd_columns = part.shape[0] % 2, part.shape[1] % 2
        part = np.pad(part, ((0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
        small.write(
            left, ((part[::2, ::2] + part[1::2, ::2] + part[::2, 1::2] + part[1::2, 1::2] + 2) // 4).astype(np.uint8)
        )
    return small
