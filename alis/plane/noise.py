"""(seed, layer, absolute column, row) → noise: every number of the endless plane's noise on its own, on any device.

A counter hashed by 32-bit mixing rounds, then Box–Muller over pairs of rows; integers only until the last step, so
CPU and GPU draw the same field. Source: the rounds are Wellons' "lowbias32" (public domain), 0.17 bits of bias.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def _mix(x: Tensor) -> Tensor:
    """One bijection of 32-bit words held in int64."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


def column_noise(seed_P: Tensor, layer: int, first_P: Tensor, width: int, height: int) -> Tensor:
    """Standard normal noise of patches, float32 [P, 1, height, width].

    Args:
        seed_P: int64, each patch's plane.
        layer: number of the layer; layers do not share their noise.
        first_P: int64, absolute number of each patch's first column at this layer's resolution.
        width: columns of a patch.
        height: rows, even.
    """
    column_Pw = first_P[:, None] + torch.arange(width, device=first_P.device)
    key_P = _mix(_mix((seed_P & _MASK) ^ (layer * 0x9E3779B1 & _MASK)) ^ (seed_P >> 32 & _MASK))
    key_Pw = _mix(_mix(key_P[:, None] ^ (column_Pw & _MASK)) ^ (column_Pw >> 32 & _MASK))
    row_H = torch.arange(height // 2, device=first_P.device)[:, None] * 0x9E3779B1 & _MASK
    first = _mix(key_Pw[:, None] ^ row_H)
    second = _mix(first ^ 0x68E31DA4)
    radius = torch.sqrt(-2 * torch.log((first.float() + 0.5) * 2.0**-32))
    angle = second.float() * (2 * math.pi * 2.0**-32)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=2).flatten(1, 2).unsqueeze(1)
