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
    """Shares of a patch's two anchors in each of its columns, float64 [P, 2, w]: they sum to one.

    Args:
        width: a frame's width W at this layer, in columns; a patch has W/g of them.
        place_P: each patch's number in its window; `anchor_pairs` says which two anchors it lies between.
    """
    num_columns = width // config.grid_size
    column_w = torch.arange(num_columns, device=place_P.device, dtype=torch.float64)
    half_window = config.anchor_patches * num_columns
    column_Pw = (place_P % config.anchor_patches)[:, None] * num_columns + column_w
    right_Pw = (column_Pw + 0.5) / half_window
    return torch.stack([1 - right_Pw, right_Pw], dim=1)


def anchor_pairs(config: ModelConfig, anchors_P3: Tensor, place_P: Tensor) -> Tensor:
    """The two anchors each patch lies between, [P, 2]: left and centre, or centre and right; no other is seen."""
    is_right_P = (place_P >= config.anchor_patches)[:, None]
    return torch.where(is_right_P, anchors_P3[:, 1:], anchors_P3[:, :2])


def window_shares(column_BW: Tensor, half_window: int) -> Tensor:
    """Shares of left, centre and right anchor at whole columns of a window: [B, W] integers → float64 [B, 3, W].

    Args:
        half_window: columns n between two anchors. Column i lies (i + ½)/n of the way from left to centre.
    """
    way_BW = (column_BW.double() + 0.5) / half_window
    left_BW, right_BW = (1 - way_BW).clamp(min=0), (way_BW - 1).clamp(min=0)
    return torch.stack([left_BW, 1 - left_BW - right_BW, right_BW], dim=1)


def wave_tables(config: ModelConfig, basis_K2: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Factors of the wave features: float64 `across` [2, 2K, 2W] and `down` [2, 2K, W].

    Features, sines first and then cosines, are across[0]·down[0] + across[1]·down[1], because
    sin(ax + by) = sin ax·cos by + cos ax·sin by and cos(ax + by) = cos ax·cos by − sin ax·sin by:
    two products an element, and no sine where the map is large. `across` covers one period of x.
    """
    column = torch.arange(2 * width, dtype=torch.float64, device=basis_K2.device)
    ax = basis_K2[:, :1] * (2 * column / width - config.w_coord_dist)
    by = basis_K2[:, 1:] * (1 - 2 * (column[:width] + 1) / width)
    across = torch.stack([torch.cat([ax.sin(), ax.cos()]), torch.cat([ax.cos(), -ax.sin()])])
    return across, torch.stack([by.cos().repeat(2, 1), by.sin().repeat(2, 1)])


def wave_columns(across_2KT: Tensor, width: int, grid_size: int, place_P: Tensor) -> Tensor:
    """Each patch's columns of `across`: [2, P, 2K, w].

    Args:
        place_P: each patch's number in its window; only its remainder by 2g matters, the period.
    """
    parts_g2KW = torch.stack(torch.split(across_2KT, width // grid_size, dim=2))
    return parts_g2KW[place_P % (2 * grid_size)].transpose(0, 1)
