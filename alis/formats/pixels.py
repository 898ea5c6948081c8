"""A finished picture → any of its columns, without loading all of it.

libvips decodes only what is requested, or decodes to disk; of Deep Zoom pictures, only the necessary tiles are read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from alis.errors import InputError
from alis.formats.deep_zoom import Tiles
from alis.formats.raw_picture import Pixels

LOSSLESS = {".png", ".tif", ".tiff"}
_WIDEST_WITHOUT_VIPS = 100_000_000


class Picture:
    """A picture on disk, from which columns can be read.

    Raises:
        InputError: it can't be decoded, is too large to be read without libvips, or lacks tiles.
    """

    _tiles: Tiles | None = None

    def __init__(self, path: Path) -> None:
        self.path, self.is_lossless = path, path.suffix.lower() in LOSSLESS
        if path.suffix.lower() == ".dzi":
            self._tiles = Tiles(path)
            self.width, self.height = self._tiles.width, self._tiles.height
            return
        try:
            import pyvips
        except ImportError:
            self._open_small()
            return
        try:
            opened = pyvips.Image.new_from_file(str(path)).colourspace("srgb")
            self._vips: Any = opened.flatten() if opened.hasalpha() else opened
        except pyvips.Error as error:
            raise InputError(f"{path}: can't be read as a picture ({error})", hint="give a strip alis saved") from None
        self.width, self.height = int(self._vips.width), int(self._vips.height)

    def _open_small(self) -> None:
        with Image.open(self.path) as opened:
            self.width, self.height = opened.size
            if self.width * self.height > _WIDEST_WITHOUT_VIPS:
                raise InputError(f"{self.path}: is too large to be read at once", hint="pip install 'lhq[web]'")
            self._pixels: Pixels = np.asarray(opened.convert("RGB"))
        self._vips = None

    def columns(self, left: int, right: int) -> Pixels:
        """Pixel columns left … right − 1: uint8 [height, right − left, 3]."""
        if self._tiles is not None:
            return self._tiles.columns(left, right)
        if self._vips is None:
            return self._pixels[:, left:right]
        data = self._vips.crop(left, 0, right - left, self.height).write_to_memory()
        return np.frombuffer(data, np.uint8).reshape(self.height, right - left, 3)
