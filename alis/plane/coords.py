"""Coordinate waves: positional features that tell the network where on the plane a column is.

Letters: B ranges, W a frame's width in columns at some layer, w columns of a range, K base waves.
Column `col` of the plane has x = 2·col/W − d, and all waves repeat every 2W columns. Columns are reduced modulo that
period as integers, before any rounding, so the waves repeat exactly.
Source: arXiv 2104.06954, section 3 (spatial coordinates).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from alis.config import ModelConfig

# Largest number of base waves of a block, by resolution; the 4×4 block may have as many as it has channels.
LIMITS = {8: 32, 16: 32, 32: 64, 64: 128, 128: 128, 256: 64, 512: 64, 1024: 64}
_QUARTER = 2 * math.pi / 4
_DIAGONAL = _QUARTER / math.sqrt(2) / math.sqrt(2)
# Base vectors acting on (x, y), in the order of the published checkpoints.
DIRECTIONS = ((0.0, _QUARTER), (_QUARTER, 0.0), (-_DIAGONAL, _DIAGONAL), (_DIAGONAL, _DIAGONAL))


def basis(resolution: int, limit: int) -> list[tuple[float, float]]:
    """Base vectors of the waves at a block's output resolution, in radians per unit of (x, y).

    The lowest octave of each direction is left out. While octaves × directions exceeds `limit`, the last direction is
    left out, but two always stay.
    """
    num_octaves = math.ceil(math.log2(resolution))
    num_directions = len(DIRECTIONS)
    while num_octaves * num_directions > limit and num_directions > 2:
        num_directions -= 1
    return [(x * 2.0**k, y * 2.0**k) for x, y in DIRECTIONS[:num_directions] for k in range(1, num_octaves)]


def block_basis(config: ModelConfig, resolution: int) -> list[tuple[float, float]]:
    """`basis` of one block of a generator; each vector gives two input features, a sine and a cosine."""
    return basis(resolution, config.channels(4) if resolution == 4 else LIMITS[resolution])


def kept_waves(config: ModelConfig, resolution: int) -> tuple[list[tuple[float, float]], int]:
    """The base waves that a block gets, and the number of local latent channels that replace the others.

    Of the waves that depend on x, a share of `config.local_latents` is replaced, evenly over octaves and directions;
    sine and cosine become one latent channel each. Waves that depend only on y stay: they tell up from down.
    """
    kept, num_across, num_gone = [], 0, 0
    for vector in block_basis(config, resolution):
        num_across += vector[0] != 0
        is_gone = math.floor(num_across * config.local_latents) > num_gone
        num_gone += is_gone
        if not is_gone:
            kept.append(vector)
    return kept, 2 * num_gone


def wave_tables(config: ModelConfig, vectors: Sequence[tuple[float, float]], width: int) -> tuple[Tensor, Tensor]:
    """Factors of the wave features: float64 `across` [2, 2K, 2W] and `down` [2, 2K, W].

    The features, first all sines and then all cosines, are across[0]·down[0] + across[1]·down[1], because
    sin(ax + by) = sin ax·cos by + cos ax·sin by and cos(ax + by) = cos ax·cos by − sin ax·sin by. This takes two
    products per element and no sines on the large map. `across` covers one period of x.
    """
    basis_K2 = torch.tensor(vectors, dtype=torch.float64).view(-1, 2)
    column = torch.arange(2 * width, dtype=torch.float64)
    ax = basis_K2[:, :1] * (2 * column / width - config.w_coord_dist)
    by = basis_K2[:, 1:] * (1 - 2 * (column[:width] + 1) / width)
    across = torch.stack([torch.cat([ax.sin(), ax.cos()]), torch.cat([ax.cos(), -ax.sin()])])
    return across, torch.stack([by.cos().repeat(2, 1), by.sin().repeat(2, 1)])


def wave_columns(across_2KT: Tensor, column_Bw: Tensor) -> Tensor:
    """The columns of `across` for absolute columns of the plane: [2, B, 2K, w]."""
    return across_2KT[:, :, column_Bw % across_2KT.shape[2]].transpose(1, 2)
