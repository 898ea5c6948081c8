"""Raw rows → tiled BigTIFF, tile by tile: memory use does not grow with the width."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

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
