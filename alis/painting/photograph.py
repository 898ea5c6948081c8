"""A photograph file → the square that is inverted, with its surroundings, as a tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from alis.data.decode import BadImage, open_picture_apart
from alis.errors import InputError


def read_photo(path: str | Path, resolution: int, *, position: float = 0.5, num_side_columns: int = 0) -> Tensor:
    """The largest square of a photograph, scaled to R×R: [3, R, R + 2·num_side_columns] in [-1, 1].

    Args:
        position: 0 … 1, where along the longer side the square is cut.
        num_side_columns: extra columns on each side of the square; past the photograph's edge they are mirrored.

    Raises:
        InputError: not a readable picture, or smaller than the model's frames.
    """
    if not 0 <= position <= 1:
        raise InputError(
            f"crop at {position} is outside the picture", hint="use 0 (left or top) to 1 (right or bottom)"
        )
    try:
        picture = open_picture_apart(Path(path).read_bytes(), resolution)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", hint="give a photograph") from None
    except (OSError, BadImage) as error:
        raise InputError(
            f"{path}: can't be read as a picture ({error})", hint="save it anew as JPEG, PNG or WebP"
        ) from None
    if min(picture.size) < resolution:
        raise InputError(
            f"{path}: {picture.width}×{picture.height} px is too small", hint=f"give at least {resolution} a side"
        )
    scale = resolution / min(picture.size)
    size = tuple(max(resolution, round(length * scale)) for length in picture.size)
    pixels_HWC = np.array(picture.resize(size, Image.Resampling.LANCZOS))  # type: ignore[arg-type]
    left, top = (round((length - resolution) * position) for length in size)
    column_W = np.abs(np.arange(left - num_side_columns, left + resolution + num_side_columns))
    column_W = (size[0] - 1) - np.abs((size[0] - 1) - column_W % (2 * size[0] - 2))
    return torch.from_numpy(pixels_HWC[top : top + resolution, column_W]).permute(2, 0, 1).float() / 127.5 - 1
