"""Raw rows → tiled BigTIFF, tile by tile: memory use does not grow with the width."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from alis.errors import InputError
from alis.formats.raw_picture import Pixels, RawPicture, atomic_path, require_package
from alis.progress import progress_bar

_TILE = 256


def encode(rows: RawPicture, path: Path, note: str) -> None:
    """Write the picture with lossless compression, and its note as the image description."""
    tifffile, side = require_package("tifffile", path), min(_TILE, rows.height)

    def tiles() -> Iterator[Pixels]:
        with progress_bar(f"encode {path.name}", -(-rows.height // side) * -(-rows.width // _TILE)) as advance:
            for top in range(0, rows.height, side):
                for left in range(0, rows.width, _TILE):
                    part = rows.read(top, min(top + side, rows.height), left, min(left + _TILE, rows.width))
                    tile = np.zeros((side, _TILE, 3), np.uint8)
                    tile[: part.shape[0], : part.shape[1]] = part
                    yield tile
                    advance(1)

    with atomic_path(path) as part:
        tifffile.imwrite(
            part,
            tiles(),
            shape=(rows.height, rows.width, 3),
            dtype=np.uint8,
            tile=(side, _TILE),
            bigtiff=True,
            compression="zlib",
            predictor=True,
            photometric="rgb",
            description=note,
            metadata=None,
            software="alis",
        )


def read_note(path: Path) -> str | None:
    """Read the note from the image description."""
    with require_package("tifffile", path).TiffFile(path) as tiff:
        return str(tiff.pages[0].description)


class Tiled:
    """A TIFF as `encode` writes it, from which columns can be read. libvips reads it too, but shows most damaged tiles
    as noise or black; here the checksum of every tile is verified.

    Args:
        page: tifffile's description of it.
    """

    def __init__(self, path: Path, page: Any) -> None:
        self.path, self.width, self.height = path, int(page.imagewidth), int(page.imagelength)
        self._side, self._tile_px = int(page.tilelength), int(page.tilewidth)
        self._places = list(zip(page.dataoffsets, page.databytecounts, strict=True))

    @classmethod
    def open(cls, path: Path) -> Tiled | None:
        """Open a TIFF; None if it isn't stored as `encode` writes it, or tifffile isn't installed.

        Raises:
            InputError: it is damaged.
        """
        try:
            import tifffile
        except ImportError:
            return None
        try:
            with tifffile.TiffFile(path) as file:
                page: Any = file.pages[0]
                stored = (page.compression, page.predictor, page.samplesperpixel, page.planarconfig, page.dtype)
                return cls(path, page) if page.is_tiled and stored == (8, 2, 3, 1, np.uint8) else None
        except (OSError, ValueError, IndexError, tifffile.TiffFileError) as error:
            raise _damaged(path, error) from None

    def columns(self, left: int, right: int) -> Pixels:
        """Pixel columns left … right − 1: uint8 [height, right − left, 3].

        Raises:
            InputError: a tile is damaged.
        """
        picture = np.empty((self.height, right - left, 3), np.uint8)
        with open(self.path, "rb") as file:
            for y in range(0, self.height, self._side):
                for x in range(left // self._tile_px * self._tile_px, right, self._tile_px):
                    a, b = max(x, left), min(x + self._tile_px, right)
                    part = self._tile(file, x, y)[: self.height - y, a - x : b - x]
                    picture[y : y + self._side, a - left : b - left] = part
        return picture

    def _tile(self, file: BinaryIO, x: int, y: int) -> Pixels:
        number = y // self._side * -(-self.width // self._tile_px) + x // self._tile_px
        try:
            offset, num_bytes = self._places[number]
            file.seek(offset)
            differences = np.frombuffer(zlib.decompress(file.read(num_bytes)), np.uint8)
            return differences.reshape(self._side, self._tile_px, 3).cumsum(axis=1, dtype=np.uint8)
        except (OSError, ValueError, IndexError, zlib.error) as error:
            raise _damaged(self.path, error) from None


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: can't be read as a picture ({error})", hint="it is damaged: paint it again")
