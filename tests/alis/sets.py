"""Small Parquet datasets for tests of training: every picture encodes its number in its colour."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def number_of(picture: np.ndarray) -> int:
    """The number that `numbered` encoded in a picture."""
    return int(picture[0, 0, 0]) * 256 + int(picture[0, 0, 1])


def numbered(number: int, size: int) -> bytes:
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = divmod(number, 256)
    return encoded(pixels)


def scenery(number: int, size: int) -> bytes:
    """A sky over a hill, different for every number."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[0:size, 0:size] / size
    horizon = 0.5 + 0.2 * np.sin(columns * rng.uniform(3, 9) + rng.uniform(0, 6))
    sky, land = rng.uniform(120, 250, 3), rng.uniform(20, 120, 3)
    pixels = np.where((rows < horizon)[..., None], sky * (0.7 + 0.3 * rows[..., None]), land)
    return encoded(pixels.astype(np.uint8))


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def write(
    folder: Path,
    num: int,
    *,
    size: int = 16,
    per_file: int = 100,
    per_group: int = 20,
    paint: Callable[[int, int], bytes] = numbered,
) -> Path:
    """`num` pictures as our exporter lays them: data/train-00000-of-000NN.parquet."""
    (folder / "data").mkdir(parents=True)
    num_files = -(-num // per_file)
    for file in range(num_files):
        numbers = range(file * per_file, min((file + 1) * per_file, num))
        rows = [{"bytes": paint(i, size), "path": f"{i}.png"} for i in numbers]
        path = folder / "data" / f"train-{file:05d}-of-{num_files:05d}.parquet"
        pq.write_table(pa.table({"id": [str(i) for i in numbers], "image": rows}), path, row_group_size=per_group)
    return folder
