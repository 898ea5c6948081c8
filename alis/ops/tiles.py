"""How Triton kernels iterate over a feature map: in tiles of its two fastest dimensions, one program per tile.

In contiguous layout (NCHW), a tile is rows × columns of one channel; in channels-last layout, columns × channels of one
row. So neighbouring threads access neighbouring memory in both, and no index has to be divided. Inputs may have any
strides; the result is dense.

Triton launches a kernel on the thread's current GPU, wherever its tensors are. So each launch is inside
`torch.cuda.device_of(x)` (for models opened with `device="cuda:1"`, and the live page's painting thread).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

# Elements of a tile.
TILE = 2048


@dataclass(frozen=True)
class Walk:
    """How to iterate over a map [B, C, H, W]: whether channels are last, the tile's size, and the grid of programs."""

    last: bool
    outer: int
    inner: int
    grid: tuple[int, int, int]


def walk(x_BCHW: Tensor) -> Walk:
    """The iteration that suits x's memory format."""
    last = is_channels_last(x_BCHW)
    batch, channels, height, width = x_BCHW.shape
    fixed, num_outer, num_inner = (height, width, channels) if last else (channels, height, width)
    inner = min(triton.next_power_of_2(num_inner), 256, TILE)
    outer = min(triton.next_power_of_2(num_outer), max(TILE // inner, 1))
    tiles = triton.cdiv(num_outer, outer) * triton.cdiv(num_inner, inner)
    return Walk(last, outer, inner, (tiles, fixed, batch))


def is_channels_last(x: Tensor) -> bool:
    """Whether x is channels-last, and that differs from contiguous."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def empty(x_BCHW: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
    """An uninitialised result in x's dtype and memory format."""
    layout = torch.channels_last if is_channels_last(x_BCHW) else torch.contiguous_format
    return torch.empty(size or x_BCHW.shape, dtype=x_BCHW.dtype, device=x_BCHW.device, memory_format=layout)


def precision(x: Tensor) -> tl.dtype:
    """The dtype that kernels compute in: float32, or float64 for float64."""
    return tl.float64 if x.dtype == torch.float64 else tl.float32


@triton.jit
def place(C, H, W, LAST: tl.constexpr, OUTER: tl.constexpr, INNER: tl.constexpr):
    """This program's batch index, channels, rows and columns (each broadcast to the tile), and a mask of valid ones."""
    num_inner = C if LAST else W
    tiles = tl.cdiv(num_inner, INNER)
    outer = (tl.program_id(0) // tiles) * OUTER + tl.arange(0, OUTER)[:, None]
    inner = (tl.program_id(0) % tiles) * INNER + tl.arange(0, INNER)[None, :]
    fixed = tl.program_id(1) + tl.zeros([1, 1], tl.int32)
    if LAST:
        c, h, w = inner, fixed, outer
    else:
        c, h, w = fixed, outer, inner
    return tl.program_id(2).to(tl.int64), c, h, w, (c < C) & (h < H) & (w < W)
