"""Where a patch stands: its anchors' shares, its coordinates, and the waves that tell the network about them.

Letters: P patches, W a frame's width in columns at some layer, w = W/g a patch's, K base waves.
A patch's place is its number in the window of three anchors, 0 … 2·n_p − 1, counted from the left anchor. Column
`col` of the window has x = 2·col/W − d, and all waves repeat every 2W columns; so x is reduced as an integer,
before any rounding, and the plane repeats exactly, not to the last bits of a float.
Source: arXiv 2104.06954, section 3 (SA-AdaIN, spatial coordinates).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from alis.config import ModelConfig

# The most base waves a block may have, by its resolution; the 4×4 block may have as many as it has channels.
LIMITS = {8: 32, 16: 32, 32: 64, 64: 128, 128: 128, 256: 64, 512: 64, 1024: 64}
_QUARTER = 2 * math.pi / 4
_DIAGONAL = _QUARTER / math.sqrt(2) / math.sqrt(2)
# Base vectors acting on (x, y), in the order of the published checkpoints.
DIRECTIONS = ((0.0, _QUARTER), (_QUARTER, 0.0), (-_DIAGONAL, _DIAGONAL), (_DIAGONAL, _DIAGONAL))


def basis(resolution: int, limit: int) -> Tensor:
    """Base vectors of the waves at a block's output resolution, float64 [K, 2], in radians per unit of (x, y).

    The lowest octave of each direction is dropped; directions are dropped from the last while
    octaves × directions exceeds `limit`, but two always stay.
    """
    num_octaves = math.ceil(math.log2(resolution))
    num_directions = len(DIRECTIONS)
    while num_octaves * num_directions > limit and num_directions > 2:
        num_directions -= 1
    rows = [(x * 2.0**k, y * 2.0**k) for x, y in DIRECTIONS[:num_directions] for k in range(1, num_octaves)]
    return torch.tensor(rows, dtype=torch.float64)


def block_basis(config: ModelConfig, resolution: int) -> Tensor:
    """`basis` of one block of a generator: float64 [K, 2]; the block sees 2·K wave features."""
    return basis(resolution, config.channels(4) if resolution == 4 else LIMITS[resolution])


def coordinates(config: ModelConfig, width: int, shift_B: Tensor) -> Tensor:
    """(x, y) of every column and row of square frames, float64 [B, 2, W, W].

    Args:
        width: the frame's width W at this layer, in columns.
        shift_B: place of each frame's left border in the window, in patches.
    """
    steps = torch.arange(width, dtype=torch.float64, device=shift_B.device)
    first_B = shift_B.double() * (width // config.grid_size)
    x_BW = 2 * (first_B[:, None] + steps) / width - config.w_coord_dist
    y_H = 1 - 2 * (steps + 1) / width
    size = (len(shift_B), width, width)
    return torch.stack([x_BW[:, None, :].expand(size), y_H[None, :, None].expand(size)], dim=1)


def shares(config: ModelConfig, width: int, place_P: Tensor) -> Tensor:
    """Share of each of the three anchors in each column of a patch, float64 [P, 3, w]; shares sum to one.

    Args:
        width: a frame's width W at this layer, in columns; a patch has W/g of them.
        place_P: each patch's number in its window.
    """
    num_columns = width // config.grid_size
    column_w = torch.arange(num_columns, device=place_P.device)
    return column_shares(place_P[:, None] * num_columns + column_w, config.anchor_patches * num_columns)


def column_shares(column_PW: Tensor, half_window: int) -> Tensor:
    """Shares of left, centre and right anchor at whole columns of a window: [P, W] integers → float64 [P, 3, W].

    Args:
        half_window: columns n between two anchors. Column i lies (i + ½)/n of the way from left to centre.
    """
    way_PW = (column_PW.double() + 0.5) / half_window
    left_PW, right_PW = (1 - way_PW).clamp(min=0), (way_PW - 1).clamp(min=0)
    return torch.stack([left_PW, 1 - left_PW - right_PW, right_PW], dim=1)


def wave_tables(config: ModelConfig, basis_K2: Tensor, width: int) -> Tensor:
    """Sines and cosines along each axis over one period, float64 [4, K, 2W]: sin x, cos x, sin y, cos y.

    sin(ax + by) = sin ax·cos by + cos ax·sin by, so a whole map of waves costs two products an element and no
    sine. The rows y take the first W columns of the table; the period is 2W columns of x.
    """
    column = torch.arange(2 * width, dtype=torch.float64, device=basis_K2.device)
    x = 2 * column / width - config.w_coord_dist
    y = 1 - 2 * (column + 1) / width
    ax, by = basis_K2[:, :1] * x, basis_K2[:, 1:] * y
    return torch.stack([ax.sin(), ax.cos(), by.sin(), by.cos()])


def waves(tables_4KT: Tensor, width: int, grid_size: int, place_P: Tensor) -> Tensor:
    """Wave features of patches, [P, 2K, W, w]: sines of all base waves, then their cosines.

    Args:
        tables_4KT: `wave_tables` at this width, in the dtype wanted.
        place_P: each patch's number in its window (only its remainder by 2g matters).
    """
    num_columns = width // grid_size
    column_w = torch.arange(num_columns, device=place_P.device)
    column_Pw = (place_P[:, None] % (2 * grid_size)) * num_columns + column_w
    sin_x, cos_x = tables_4KT[0][:, column_Pw].unsqueeze(2), tables_4KT[1][:, column_Pw].unsqueeze(2)  # [K, P, 1, w]
    sin_y, cos_y = tables_4KT[2, :, None, :width, None], tables_4KT[3, :, None, :width, None]  # [K, 1, W, 1]
    waves_KPHw = torch.cat([sin_x * cos_y + cos_x * sin_y, cos_x * cos_y - sin_x * sin_y])
    return waves_KPHw.transpose(0, 1)
