"""(seed, layer, absolute column, row) → noise of the endless plane: every number can be computed alone, on any device.

A counter is hashed by 32-bit mixing rounds, then pairs of rows go through Box–Muller. All steps but the last use
integers, so CPU and GPU get the same field. Source: Wellons' "lowbias32" (public domain), 0.17 bits of bias.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MASK = 0xFFFFFFFF
GOLDEN = 0x9E3779B1
FIRST, SECOND = 0x7FEB352D, 0x846CA68B


def mix(x: Tensor) -> Tensor:
    """A bijective hash of 32-bit words, stored in int64."""
    x = ((x ^ (x >> 16)) * FIRST) & MASK
    x = ((x ^ (x >> 15)) * SECOND) & MASK
    return x ^ (x >> 16)


def column_keys(seed_B: Tensor, stream: int, column_Bw: Tensor) -> Tensor:
    """A 32-bit hash (in int64) for each column of each plane, [B, w]; different streams are independent.

    Args:
        seed_B, column_Bw: int64, any value.
    """
    key_B = mix(mix((seed_B & MASK) ^ (stream * GOLDEN & MASK)) ^ (seed_B >> 32 & MASK))
    return mix(mix(key_B[:, None] ^ (column_Bw & MASK)) ^ (column_Bw >> 32 & MASK))


def column_noise(seed_B: Tensor, layer: int, column_Bw: Tensor, height: int) -> Tensor:
    """Standard normal noise of ranges of columns, float32 [B, 1, height, w].

    Args:
        seed_B: int64, each range's seed.
        layer: number of the layer; layers have different noise.
        column_Bw: int64, absolute column numbers at this layer's resolution.
        height: number of rows, even.
    """
    key_Bw = column_keys(seed_B, layer, column_Bw)
    row_H = torch.arange(height // 2, device=column_Bw.device)[:, None] * GOLDEN & MASK
    first = mix(key_Bw[:, None] ^ row_H)
    second = mix(first ^ 0x68E31DA4)
    radius = torch.sqrt(-2 * torch.log((first.float() + 0.5) * 2.0**-32))
    angle = second.float() * (2 * math.pi * 2.0**-32)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=2).flatten(1, 2).unsqueeze(1)
