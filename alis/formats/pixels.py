"""A finished picture → any of its columns, without loading all of it.

libvips decodes only what is requested, or decodes to disk; of Deep Zoom pictures and BigTIFF, only the necessary tiles
are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from alis.errors import InputError
from alis.formats.deep_zoom import Tiles
from alis.formats.raw_picture import Pixels
from alis.formats.tiff import Tiled

TIFF = {".tif", ".tiff"}
LOSSLESS = {".png", *TIFF}
_WIDEST_WITHOUT_VIPS = 100_000_000


class Picture:
    """A picture on disk, from which columns can be read.

    Raises:
        InputError: it can't be decoded, is too large to be read without libvips, or lacks tiles.
    """

    _tiles: Tiles | Tiled | None = None

    def __init__(self, path: Path) -> None:
        self.path, self.is_lossless = path, path.suffix.lower() in LOSSLESS
        if path.suffix.lower() == ".dzi":
            self._tiles = Tiles(path)
            self.width, self.height = self._tiles.width, self._tiles.height
            return
        if path.suffix.lower() in TIFF and (tiled := Tiled.open(path)) is not None:
            self._tiles, self.width, self.height = tiled, tiled.width, tiled.height
            return
        try:
            import pyvips
        except ImportError:
            self._open_small()
            return
        with self._naming_damage(pyvips.Error):
            # Without `fail_on`, libvips shows damaged parts as noise or black; without `revalidate`, as they once were.
            opened = pyvips.Image.new_from_file(str(path), fail_on="error", revalidate=True).colourspace("srgb")
            self._vips: Any = opened.flatten() if opened.hasalpha() else opened
        self.width, self.height = int(self._vips.width), int(self._vips.height)

    @contextmanager
    def _naming_damage(self, *kinds: type[Exception]) -> Iterator[None]:
        try:
            yield
        except kinds as error:
            said = " ".join(str(error).split())
            raise InputError(
                f"{self.path}: can't be read as a picture ({said})", hint="it is damaged: paint it again"
            ) from None

    def _open_small(self) -> None:
        with self._naming_damage(OSError, SyntaxError, ValueError), Image.open(self.path) as opened:
            self.width, self.height = opened.size
            if self.width * self.height > _WIDEST_WITHOUT_VIPS:
                raise InputError(f"{self.path}: is too large to be read at once", hint="pip install 'lhq[web]'")
            self._pixels: Pixels = np.asarray(opened.convert("RGB"))
        self._vips = None

    def columns(self, left: int, right: int) -> Pixels:
        """Pixel columns left … right − 1: uint8 [height, right − left, 3].

        Raises:
            InputError: they can't be decoded.
        """
        if self._tiles is not None:
            return self._tiles.columns(left, right)
        if self._vips is None:
            return self._pixels[:, left:right]
        import pyvips

        with self._naming_damage(pyvips.Error):
            data = self._vips.crop(left, 0, right - left, self.height).write_to_memory()
        return np.frombuffer(data, np.uint8).reshape(self.height, right - left, 3)
