"""The [1, 3, 3, 1] filter in Triton, with up- and down-sampling: one kernel for all cases.

y[o] = gain · Σ_k f[k] · x[(o·down + k − pad) / up], over taps for which the division is exact and inside the map. As f
is symmetric, the transposed operation is the same with up and down swapped and pad = 3 − pad. So derivatives of any
order use this kernel again.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from alis.ops import tiles


def up2_triton(x_BCHW: Tensor) -> Tensor:
    """`alis.ops.up2` by a Triton kernel."""
    return _apply(x_BCHW, (2 * x_BCHW.shape[2], 2 * x_BCHW.shape[3]), 2, 1, 2, 4.0)


def down2_triton(x_BCHW: Tensor) -> Tensor:
    """`alis.ops.down2` by a Triton kernel."""
    return _apply(x_BCHW, ((x_BCHW.shape[2]) // 2, x_BCHW.shape[3] // 2), 1, 2, 1, 1.0)


def blur_triton(x_BCHW: Tensor, pad: int, gain: float) -> Tensor:
    """`alis.ops.blur` by a Triton kernel."""
    grow = 2 * pad - 3
    return _apply(x_BCHW, (x_BCHW.shape[2] + grow, x_BCHW.shape[3] + grow), 1, 1, pad, gain)


def _apply(x: Tensor, size: tuple[int, int], up: int, down: int, pad: int, gain: float) -> Tensor:
    y: Tensor = _Filter.apply(x, size, up, down, pad, gain)
    return y


class _Filter(torch.autograd.Function):
    """The filter with given up- and down-sampling factors, padding and result size."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: tuple[int, int], up: int, down: int, pad: int, gain: float) -> Tensor:
        ctx.how = tuple(x.shape[2:]), down, up, 3 - pad, gain
        y = tiles.empty(x, (*x.shape[:2], *size))
        way = tiles.walk(y)
        if y.numel():
            with torch.cuda.device_of(x):
                _filter_kernel[way.grid](
                    x,
                    y,
                    *y.shape[1:],
                    *x.shape[2:],
                    *x.stride(),
                    *y.stride(),
                    gain,
                    up,
                    down,
                    pad,
                    tiles.precision(x),
                    way.last,
                    way.outer,
                    way.inner,
                )
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:
        return _Filter.apply(gy, *ctx.how), None, None, None, None, None


@triton.jit
def _filter_kernel(
    x,
    y,
    C,
    H,
    W,
    x_H,
    x_W,
    x_b,
    x_c,
    x_h,
    x_w,
    y_b,
    y_c,
    y_h,
    y_w,
    gain,
    UP: tl.constexpr,
    DOWN: tl.constexpr,
    PAD: tl.constexpr,
    WIDE: tl.constexpr,
    LAST: tl.constexpr,
    OUTER: tl.constexpr,
    INNER: tl.constexpr,
):
    b, c, h, w, real = tiles.place(C, H, W, LAST, OUTER, INNER)
    # With up-sampling, every second tap is on a zero: start at the first that isn't.
    top, left = h * DOWN - PAD, w * DOWN - PAD
    first_h, first_w = (top & 1) * (UP - 1), (left & 1) * (UP - 1)
    total = tl.zeros([OUTER, INNER], WIDE)
    for i in tl.static_range(4 // UP):
        tap_h = first_h + i * UP
        row = (top + tap_h) // UP
        # tap is 1/8 at both ends and 3/8 inside; a negative row can't be told from 0 after division, so ask before
        weight_h = tl.where((tap_h == 0) | (tap_h == 3), 0.125, 0.375)
        in_h = (top + tap_h >= 0) & (row < x_H)
        for j in tl.static_range(4 // UP):
            tap_w = first_w + j * UP
            column = (left + tap_w) // UP
            weight_w = tl.where((tap_w == 0) | (tap_w == 3), 0.125, 0.375)
            inside = real & in_h & (left + tap_w >= 0) & (column < x_W)
            value = tl.load(x + b * x_b + c * x_c + row * x_h + column * x_w, mask=inside, other=0.0).to(WIDE)
            total += value * (weight_h * weight_w)
    tl.store(y + b * y_b + c * y_c + h * y_h + w * y_w, (total * gain).to(y.dtype.element_ty), mask=real)
