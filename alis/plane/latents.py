"""(seed, block, channel, row, absolute column) → local latents: Gaussian noise inputs, so that the plane never repeats.

They replace waves along x: waves repeat every two frames, and so does whatever a generator derives from them. A hashed
counter (`alis.plane.noise`) gives 32 bits for two neighbouring rows; each half is looked up in a table of 65,536
quantiles of the normal distribution. Only integers and one look-up, so every device and language gets the same field.
Source: arXiv 2104.03963 (local latents).
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from alis.plane.noise import FIRST, GOLDEN, SECOND, column_keys

_STREAM = 0x4C617400  # separate from the layers' noise
_CHUNK = 1 << 17  # words computed at a time, so that they stay in a core's cache


def local_latents(seed_B: Tensor, resolution: int, column_Bw: Tensor, num: int, height: int) -> Tensor:
    """Standard normal numbers, float32 [B, num, height, w], channels last in memory.

    The word of channel c and rows 2i, 2i + 1 is the hash of (key of the column) xor (c·height/2 + i)·0x9E3779B1,
    modulo 2^32; its low half is row 2i's number, its high half row 2i + 1's.

    Args:
        seed_B: int64, each range's seed.
        resolution: of the block; blocks have different latents.
        column_Bw: int64, absolute column numbers on the block's input grid.
        num: number of channels.
        height: number of rows, even.
    """
    device, (batch, width), pairs = column_Bw.device, column_Bw.shape, height // 2
    key_Bw = _signed(column_keys(seed_B, _STREAM + resolution, column_Bw))
    channel = torch.arange(num, device=device) * pairs
    counter_im = _signed((torch.arange(pairs, device=device)[:, None] + channel) * GOLDEN)
    found = torch.empty([batch, pairs, 2, width, num], device=device)
    step = max(_CHUNK // max(batch * width * num, 1), 1) if device.type == "cpu" else pairs
    # An exported graph gets its own table: the tracer's placeholder must not get into the cache.
    table = (quantiles.__wrapped__ if torch.compiler.is_exporting() else quantiles)(device)
    for first in range(0, pairs, step):
        word = _mixed(key_Bw[:, None, :, None] ^ counter_im[None, first : first + step, None, :])
        for half, index in enumerate((word & 0xFFFF, _shifted(word, 16))):
            looked_up = table.index_select(0, index.flatten()).view(word.shape)
            found[:, first : first + step, half] = looked_up
    return found.view(batch, height, width, num).permute(0, 3, 1, 2)


@functools.cache
def quantiles(device: torch.device) -> Tensor:
    """Quantiles of the normal distribution at (i + ½)/65536, float32 [65536]."""
    # The cache outlives this call: an inference tensor could not be used with gradients later.
    with torch.inference_mode(False):
        return torch.special.ndtri((torch.arange(1 << 16, dtype=torch.float64) + 0.5) / (1 << 16)).float().to(device)


def _signed(x: Tensor) -> Tensor:
    """The low 32 bits of int64 as int32, whose products wrap around at 2^32 as the hash needs."""
    return ((x + (1 << 31) & 0xFFFFFFFF) - (1 << 31)).to(torch.int32)


def _shifted(x: Tensor, num: int) -> Tensor:
    """int32 shifted right by `num` bits, filled with zeros."""
    return (x >> num).bitwise_and_((1 << 32 - num) - 1)


def _mixed(x: Tensor) -> Tensor:
    """`alis.plane.noise.mix` on int32, in place: half the memory, and products that CPUs compute eight at a time."""
    x.bitwise_xor_(_shifted(x, 16)).mul_(FIRST)
    x.bitwise_xor_(_shifted(x, 15)).mul_(SECOND - (1 << 32))
    return x.bitwise_xor_(_shifted(x, 16))
